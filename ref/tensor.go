package ref

// Tensor gives the element d of position s in head h of batch b.
type Tensor func(b, h, s, d int) float64

// View reads x with strides between batches, heads and positions; the last dimension is contiguous.
func View[T float32 | float64](x []T, batch, head, position int) Tensor {
	return func(b, h, s, d int) float64 { return float64(x[b*batch+h*head+s*position+d]) }
}

// BHSD reads x as contiguous [batch, heads, sequence, dim].
func BHSD[T float32 | float64](x []T, heads, sequence, dim int) Tensor {
	return View(x, heads*sequence*dim, sequence*dim, dim)
}

// BSHD reads x as contiguous [batch, sequence, heads, dim].
func BSHD[T float32 | float64](x []T, heads, sequence, dim int) Tensor {
	return View(x, sequence*heads*dim, dim, heads*dim)
}
