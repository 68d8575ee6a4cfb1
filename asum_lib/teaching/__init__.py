"""What the pages of the part Foundations call: worked examples small enough to check by hand, and their pictures."""
