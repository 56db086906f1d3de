"""What an image is: pure values, no input or output."""
