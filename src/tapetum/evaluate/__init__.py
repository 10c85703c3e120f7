"""How good is an encoder? One file per protocol, each a short function of stored features."""
