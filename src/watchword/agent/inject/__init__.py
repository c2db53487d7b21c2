"""Ways to hand the launch secret to a machine, none of which touches a disk or a command line."""
