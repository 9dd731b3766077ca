package kernel

// needed marks, for each group of a plan, the blocks of keys that some query sees: only they are packed.
type needed struct {
	words int      // of a group
	bits  []uint64 // nil: all blocks are needed
}

func (n *needed) is(group, block int) bool {
	return n.bits == nil || n.bits[group*n.words+block/64]>>(block%64)&1 == 1
}

// mark finds the blocks that groups of p need, each with at most so many.
func (n *needed) mark(p *Plan, groups, blocks int) {
	n.bits = n.bits[:0]
	if p.opts.Mask == nil {
		n.bits = nil
		return
	}
	n.words = (blocks + 63) / 64
	if cap(n.bits) < groups*n.words {
		n.bits = make([]uint64, groups*n.words)
	}
	n.bits = n.bits[:groups*n.words]
	clear(n.bits)
	for g := range groups {
		seq, kvHead := &p.sequences[g/p.shape.KVHeads], g%p.shape.KVHeads
		if seq.queries == 0 || seq.keys == 0 {
			continue
		}
		whole := region{kvHead * p.group, (kvHead + 1) * p.group, 0, seq.queries, seq.keyOffset, seq.keyOffset + seq.keys}
		first, end := seq.visible.reach(whole)
		first, end = first-seq.keyOffset, end-seq.keyOffset
		for b := first / blockKeys; b*blockKeys < end; b++ {
			r := whole
			r.j0 = seq.keyOffset + b*blockKeys
			r.j1 = min(r.j0+blockKeys, whole.j1)
			if sees(seq.visible, r) {
				n.bits[g*n.words+b/64] |= 1 << (b % 64)
			}
		}
	}
}

// sees reports whether any query of r sees any of its keys.
func sees(v visibility, r region) bool {
	switch v.look(r).kind {
	case none:
		return false
	case all, same:
		return true
	}
	if r.i1-r.i0 > rowTile {
		later, earlier := r, r
		later.i0 = (r.i0 + r.i1) / 2
		earlier.i1 = later.i0
		return sees(v, later) || sees(v, earlier)
	}
	for h := r.h0; h < r.h1; h++ {
		for i := r.i0; i < r.i1; i++ {
			bits := every(r.j1 - r.j0)
			if v.see(h, i, r.j0, &bits); bits != [2]uint64{} {
				return true
			}
		}
	}
	return false
}
