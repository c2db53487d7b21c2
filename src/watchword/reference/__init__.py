"""The auditor's side: reference values computed from the artifacts of a release."""
