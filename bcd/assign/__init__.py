"""Label assignment: which site learns which ground-truth box. Batched over padded boxes, no Python loop over them."""
