"""What hosts ask for, from the message to the answer: launches, attestations; and the same under other rules."""
