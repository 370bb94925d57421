"""What a report says of one subject each: privacy, protection, persons, tuning, sensitivity."""
