"""What files say: annotation, prediction and result formats."""
