package ref

// Mask says whether query i sees key j, in head h of batch b. A nil Mask is as good as one that is
// always true wherever a Mask is taken.
type Mask func(b, h, i, j int) bool

// And is what all masks let be seen; everything if there are none.
func And(masks ...Mask) Mask {
	return func(b, h, i, j int) bool {
		for _, m := range masks {
			if m != nil && !m(b, h, i, j) {
				return false
			}
		}
		return true
	}
}

// Or is what any mask lets be seen; nothing if there are none.
func Or(masks ...Mask) Mask {
	return func(b, h, i, j int) bool {
		for _, m := range masks {
			if m == nil || m(b, h, i, j) {
				return true
			}
		}
		return false
	}
}

// ByHead gives head h the mask number h mod len(masks).
func ByHead(masks ...Mask) Mask {
	return func(b, h, i, j int) bool { return And(masks[h%len(masks)])(b, h, i, j) }
}

// Shift is m for queries that start at position offset: after a cache of that many keys, say.
func Shift(m Mask, offset int) Mask {
	return func(b, h, i, j int) bool { return And(m)(b, h, i+offset, j) }
}

// Causal: j <= i + offset. An offset of 0 aligns top-left, N - L bottom-right; it may be negative.
func Causal(offset int) Mask {
	return func(_, _, i, j int) bool { return j <= i+offset }
}

// Prefix is prefix-LM: j < prefix, or j <= i + offset.
func Prefix(prefix, offset int) Mask {
	return func(_, _, i, j int) bool { return j < prefix || j <= i+offset }
}

// Window: i + offset - left <= j <= i + offset + right, where -1 is unbounded.
func Window(left, right, offset int) Mask {
	return func(_, _, i, j int) bool {
		at := i + offset
		return (left == -1 || at-left <= j) && (right == -1 || j <= at+right)
	}
}

// FirstKey: j >= first[b], for sequences that are padded on the left.
func FirstKey(first []int) Mask {
	return func(b, _, _, j int) bool { return j >= first[b] }
}

// KeyCount: j < n[b], for sequences that are padded on the right.
func KeyCount(n []int) Mask {
	return func(b, _, _, j int) bool { return j < n[b] }
}

// Documents is sequences packed end to end: document d has the queries cumQ[d] <= i < cumQ[d+1] and the
// keys cumK[d] <= j < cumK[d+1]. A query sees keys of its own document only, and of those what the mask
// within says when asked as if the document were batch d, alone, its positions counted from 0.
func Documents(cumQ, cumK []int, within Mask) Mask {
	return func(_, h, i, j int) bool {
		for d := range len(cumQ) - 1 {
			if cumQ[d] <= i && i < cumQ[d+1] {
				return cumK[d] <= j && j < cumK[d+1] && And(within)(d, h, i-cumQ[d], j-cumK[d])
			}
		}
		return false
	}
}

// The patterns of the Sparse Transformer (arXiv 1904.10509) follow; l is the stride. All are causal.

// StridedFirst: j in {max(0, i-l) .. i}.
func StridedFirst(l int) Mask {
	return func(_, _, i, j int) bool { return max(0, i-l) <= j && j <= i }
}

// StridedSecond: (i-j) mod l = 0.
func StridedSecond(l int) Mask {
	return func(_, _, i, j int) bool { return j <= i && (i-j)%l == 0 }
}

// Strided is both parts of the strided pattern, merged.
func Strided(l int) Mask { return Or(StridedFirst(l), StridedSecond(l)) }

// FixedFirst: ⌊j/l⌋ = ⌊i/l⌋.
func FixedFirst(l int) Mask {
	return func(_, _, i, j int) bool { return j <= i && j/l == i/l }
}

// FixedSecond: j mod l >= l-c, the c summary columns at the end of each stride.
func FixedSecond(l, c int) Mask {
	return func(_, _, i, j int) bool { return j <= i && j%l >= l-c }
}

// Fixed is both parts of the fixed pattern, merged.
func Fixed(l, c int) Mask { return Or(FixedFirst(l), FixedSecond(l, c)) }

// FixedSecondByHead is FixedSecond with another run of c columns in each head: head h has run
// r = h mod ⌊l/c⌋, counted from the end of the stride, which is l-(r+1)·c <= j mod l < l-r·c.
func FixedSecondByHead(l, c int) Mask {
	return func(_, h, i, j int) bool {
		r := h % (l / c)
		return j <= i && l-(r+1)*c <= j%l && j%l < l-r*c
	}
}

// FixedByHead is Fixed with another run of summary columns in each head.
func FixedByHead(l, c int) Mask { return Or(FixedFirst(l), FixedSecondByHead(l, c)) }
