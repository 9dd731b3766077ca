package kernel

// SparsePart chooses a part of a pattern of the Sparse Transformer.
type SparsePart int

// The parts of a pattern.
const (
	Merged     SparsePart = iota // both parts
	FirstPart                    // what is near
	SecondPart                   // what is far
)

// SparseStrided is the strided pattern of the Sparse Transformer (Child et al., 2019). A query at position
// p = i + offset sees, of the keys j ≤ p, in the first part those with j ≥ p - Stride, and in the second
// those with (p - j) mod Stride = 0. A stride of about √n lets through n·√n pairs, and costs as much.
// Stride must be at least 1.
type SparseStrided struct {
	Stride int
	Part   SparsePart
	Align  Alignment
	Offset []int // as in Causal
}

// SparseFixed is the fixed pattern of the Sparse Transformer (Child et al., 2019). A query at position
// p = i + offset sees, of the keys j ≤ p, in the first part those of its own stride, ⌊j/Stride⌋ =
// ⌊p/Stride⌋, and in the second the Summary last ones of every stride, j mod Stride ≥ Stride - Summary.
// Summary must be 1 to Stride.
type SparseFixed struct {
	Stride, Summary int
	Part            SparsePart
	// RunPerHead gives head h another run of Summary columns: the run h mod ⌊Stride/Summary⌋, counted
	// from the end of the stride.
	RunPerHead bool
	Align      Alignment
	Offset     []int // as in Causal
}

func checkPart(name string, part SparsePart) error {
	if part < Merged || part > SecondPart {
		return misuse(ErrOption, name, "has the unknown part %d", part)
	}
	return nil
}

func (m SparseStrided) compile(s *sequence) (visibility, error) {
	const name = "SparseStrided"
	if m.Stride < 1 || m.Stride > maxSize {
		return nil, misuse(ErrOption, name, "has stride %d, want 1 to %d", m.Stride, maxSize)
	}
	if err := checkPart(name, m.Part); err != nil {
		return nil, err
	}
	offset, err := s.offset(name, m.Align, m.Offset)
	if m.Part == FirstPart {
		return band{offset - m.Stride, offset}, err
	}
	return strided{m.Stride, offset, m.Part == Merged}, err
}

func (m SparseFixed) compile(s *sequence) (visibility, error) {
	const name = "SparseFixed"
	if m.Stride < 1 || m.Stride > maxSize {
		return nil, misuse(ErrOption, name, "has stride %d, want 1 to %d", m.Stride, maxSize)
	}
	if m.Summary < 1 || m.Summary > m.Stride {
		return nil, misuse(ErrOption, name, "has %d summary columns, want 1 to %d, the stride", m.Summary, m.Stride)
	}
	if err := checkPart(name, m.Part); err != nil {
		return nil, err
	}
	offset, err := s.offset(name, m.Align, m.Offset)
	f := fixed{stride: m.Stride, summary: m.Summary, runs: 1, offset: offset, near: m.Part != SecondPart, far: m.Part != FirstPart}
	if m.RunPerHead {
		f.runs = m.Stride / m.Summary
	}
	return f, err
}

// strided is j ≤ p = i + offset with (p - j) mod stride = 0, and if near also with j ≥ p - stride.
type strided struct {
	stride, offset int
	near           bool
}

func (m strided) future() band { return band{-farthest, m.offset} }
func (m strided) window() band { return band{m.offset - m.stride, m.offset} }

func (m strided) reach(r region) (first, end int) { return m.future().reach(r) }

func (m strided) look(r region) view {
	if m.future().look(r).kind == none {
		return view{kind: none}
	}
	if m.near && m.window().look(r).kind == all {
		return view{kind: all}
	}
	return view{}
}

func (m strided) see(h, i, j0 int, bits *[2]uint64) {
	var seen [2]uint64
	p := i + m.offset
	if m.near {
		show(&seen, p-m.stride-j0, p+1-j0)
	}
	if p >= j0 {
		for x := (p - j0) % m.stride; x < blockKeys; x += m.stride {
			seen[x/64] |= 1 << (x % 64)
		}
	}
	m.future().see(h, i, j0, bits)
	bits[0] &= seen[0]
	bits[1] &= seen[1]
}

// fixed is j ≤ p = i + offset with j in p's stride (near) or among the summary columns of any (far).
type fixed struct {
	stride, summary, runs, offset int
	near, far                     bool
}

func (m fixed) future() band { return band{-farthest, m.offset} }

// own is the first key of the stride that query i stands in.
func (m fixed) own(i int) int {
	p := max(i+m.offset, 0)
	return p - p%m.stride
}

func (m fixed) reach(r region) (first, end int) {
	first, end = m.future().reach(r)
	if !m.far {
		first = min(max(first, m.own(r.i0)), end)
	}
	return first, end
}

func (m fixed) look(r region) view {
	n := r.j1 - r.j0
	switch first, last := m.own(r.i0), m.own(r.i1-1); {
	case m.future().look(r).kind == none || !m.far && r.j1 <= first:
		return view{kind: none}
	case m.near && m.future().look(r).kind == all && first == last && r.j0 >= first:
		return view{kind: all}
	case r.j1 <= first && (m.runs == 1 || r.h1 == r.h0+1):
		// All of it is past, and none of it in a stride that a query stands in.
		bits := m.columns(r.h0, r.j0)
		keep(&bits, 0, n)
		return alike(bits, n)
	}
	return view{}
}

// columns is the summary columns among the keys from j0 on.
func (m fixed) columns(h, j0 int) (bits [2]uint64) {
	if !m.far {
		return bits
	}
	from := m.stride - (h%m.runs+1)*m.summary
	for x := from - j0%m.stride; x < blockKeys; x += m.stride {
		show(&bits, x, x+m.summary)
	}
	return bits
}

func (m fixed) see(h, i, j0 int, bits *[2]uint64) {
	seen := m.columns(h, j0)
	if m.near {
		own := m.own(i) - j0
		show(&seen, own, own+m.stride)
	}
	m.future().see(h, i, j0, bits)
	bits[0] &= seen[0]
	bits[1] &= seen[1]
}
