"""What operators install beside Overspill."""
