"""Tools around the house: speed, the direction of imports, several results in one picture."""
