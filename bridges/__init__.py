"""Our tasks for other trainers: TRL, verl, reasoning-gym. docs/bridges.md has the commands."""
