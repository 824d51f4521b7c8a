"""What a person asks for, as checked values."""
