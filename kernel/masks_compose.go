package kernel

// And shows what all of its masks show: everything if there are none. A nil Mask among them shows
// everything.
type And []Mask

// Or shows what any of its masks shows: nothing if there are none. A nil Mask among them shows
// everything.
type Or []Mask

// PerHead gives query head h the mask h mod len, of which there must be one. A nil Mask among them shows
// everything.
type PerHead []Mask

func (m And) compile(s *sequence) (visibility, error) {
	v, err := compileAll(m, s)
	return intersection(v), err
}

func (m Or) compile(s *sequence) (visibility, error) {
	v, err := compileAll(m, s)
	return union(v), err
}

func (m PerHead) compile(s *sequence) (visibility, error) {
	if len(m) == 0 {
		return nil, misuse(ErrOption, "PerHead", "has no masks, want at least 1")
	}
	v, err := compileAll(m, s)
	return perHead(v), err
}

func compileAll(masks []Mask, s *sequence) ([]visibility, error) {
	v := make([]visibility, len(masks))
	for i, m := range masks {
		var err error
		if v[i], err = s.compile(m); err != nil {
			return nil, err
		}
	}
	return v, nil
}

type intersection []visibility

func (v intersection) reach(r region) (first, end int) {
	for _, m := range v {
		if r.j0 < r.j1 {
			r.j0, r.j1 = m.reach(r)
		}
	}
	return r.j0, r.j1
}

func (v intersection) look(r region) view {
	bits, known := every(r.j1-r.j0), true
	for _, m := range v {
		part := m.look(r)
		if part.kind == mixed {
			known = false
			continue
		}
		seen := part.of(r.j1 - r.j0)
		bits[0] &= seen[0]
		bits[1] &= seen[1]
	}
	if known || bits == [2]uint64{} {
		return alike(bits, r.j1-r.j0)
	}
	return view{}
}

func (v intersection) see(h, i, j0 int, bits *[2]uint64) {
	for _, m := range v {
		m.see(h, i, j0, bits)
	}
}

type union []visibility

func (v union) reach(r region) (first, end int) {
	first, end = r.j1, r.j0
	for _, m := range v {
		if a, b := m.reach(r); a < b {
			first, end = min(first, a), max(end, b)
		}
	}
	return min(first, end), end
}

func (v union) look(r region) view {
	var bits [2]uint64
	known := true
	for _, m := range v {
		part := m.look(r)
		if part.kind == mixed {
			known = false
			continue
		}
		seen := part.of(r.j1 - r.j0)
		bits[0] |= seen[0]
		bits[1] |= seen[1]
	}
	if known || bits == every(r.j1-r.j0) {
		return alike(bits, r.j1-r.j0)
	}
	return view{}
}

func (v union) see(h, i, j0 int, bits *[2]uint64) {
	before, seen := *bits, [2]uint64{}
	for _, m := range v {
		*bits = before // in place: a variable would have to be allocated
		m.see(h, i, j0, bits)
		seen[0] |= bits[0]
		seen[1] |= bits[1]
	}
	*bits = seen
}

type perHead []visibility

func (v perHead) of(h int) visibility { return v[h%len(v)] }

// apart calls f with the part of r that each mask is asked for.
func (v perHead) apart(r region, f func(visibility, region)) {
	for h := r.h0; h < min(r.h1, r.h0+len(v)); h++ {
		part := r
		part.h0, part.h1 = h, h+1
		for part.h1+len(v)-1 < r.h1 {
			// The mask has several of these heads. What lies between them it is asked for in vain.
			part.h1 += len(v)
		}
		f(v.of(h), part)
	}
}

func (v perHead) reach(r region) (first, end int) {
	first, end = r.j1, r.j0
	v.apart(r, func(m visibility, part region) {
		if a, b := m.reach(part); a < b {
			first, end = min(first, a), max(end, b)
		}
	})
	return min(first, end), end
}

func (v perHead) look(r region) view {
	var whole view
	begun := false
	v.apart(r, func(m visibility, part region) {
		if now := m.look(part); !begun {
			whole, begun = now, true
		} else if now != whole {
			whole = view{}
		}
	})
	return whole
}

func (v perHead) see(h, i, j0 int, bits *[2]uint64) { v.of(h).see(h, i, j0, bits) }
