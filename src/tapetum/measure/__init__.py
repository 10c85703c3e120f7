"""Pure functions of tensors that training and evaluation share."""
