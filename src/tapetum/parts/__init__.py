"""What methods share: losses, heads, state, masks, predictors, schedules."""
