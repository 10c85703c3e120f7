"""What is hidden or comes next is predicted, as features or as pixels."""
