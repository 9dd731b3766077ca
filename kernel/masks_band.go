package kernel

// Causal hides the future: query i sees the keys j ≤ i + offset, where the offset is what [Alignment] says.
// The zero value aligns the last query with the last key.
type Causal struct {
	Align Alignment
	// Offset, if not nil, replaces the alignment by one offset for each sequence of the batch. Offsets may
	// be negative: the first queries then see nothing.
	Offset []int
}

func (c Causal) compile(s *sequence) (visibility, error) { return c.band(s) }

func (c Causal) band(s *sequence) (band, error) {
	offset, err := s.offset("Causal", c.Align, c.Offset)
	return band{-farthest, offset}, err
}

// Window shows the keys around a query: i + offset - Left ≤ j ≤ i + offset + Right, where -1 is
// unbounded. The last w tokens are Window{Left: w - 1}, because Right is then 0: no key of the future.
type Window struct {
	Left, Right int
	Align       Alignment
	Offset      []int // as in Causal
}

func (w Window) compile(s *sequence) (visibility, error) {
	const name = "Window"
	if w.Left < -1 || w.Right < -1 {
		return nil, misuse(ErrOption, name, "reaches %d to the left and %d to the right, want -1 or more", w.Left, w.Right)
	}
	offset, err := s.offset(name, w.Align, w.Offset)
	b := band{offset - min(w.Left, farthest), offset + min(w.Right, farthest)}
	if w.Left == -1 {
		b.low = -farthest
	}
	if w.Right == -1 {
		b.high = farthest
	}
	return b, err
}

// Prefix is prefix-LM: every query sees the first Keys keys, and the others if they are not in its
// future, j ≤ i + offset.
type Prefix struct {
	Keys   int
	Align  Alignment
	Offset []int // as in Causal
}

func (p Prefix) compile(s *sequence) (visibility, error) {
	const name = "Prefix"
	if p.Keys < 0 {
		return nil, misuse(ErrOption, name, "has %d keys, want 0 or more", p.Keys)
	}
	offset, err := s.offset(name, p.Align, p.Offset)
	return union{first(p.Keys), band{-farthest, offset}}, err
}

// first is j < first.
type first int

func (f first) reach(r region) (int, int) { return r.j0, min(max(int(f), r.j0), r.j1) }

func (f first) look(r region) view {
	bits := every(r.j1 - r.j0)
	f.see(0, 0, r.j0, &bits)
	return alike(bits, r.j1-r.j0)
}

func (f first) see(_, _, j0 int, bits *[2]uint64) { keep(bits, 0, int(f)-j0) }
