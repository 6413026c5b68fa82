"""How TRRG learns: stages, data and synthetic phantoms."""
