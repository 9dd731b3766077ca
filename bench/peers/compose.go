package main

// parts are what attention is composed of by users of a package that has no attention, one head at a time.
type parts struct {
	scores  func(s, q, k []float32) // S = Q·Kᵀ·scale
	softmax func(row []float32)     // in place
	values  func(o, p, v []float32) // O = P·V
}

// compose runs attention with the whole score matrix of a head in memory.
func (a *attention) compose(p parts) *entry {
	s := make([]float32, a.length*a.length)
	return &entry{how: "composed", run: func(calls int) {
		for range calls {
			for h := range a.heads {
				p.scores(s, a.head(a.q, h), a.head(a.k, h))
				for i := range a.length {
					row := s[i*a.length:][:a.length]
					if a.causal {
						clear(row[i+1:])
						row = row[:i+1]
					}
					p.softmax(row)
				}
				p.values(a.head(a.out, h), s, a.head(a.v, h))
			}
		}
	}}
}
