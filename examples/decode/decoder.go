package main

import (
	"time"

	"github.com/quern-go/quern/kernel"
)

// decoder computes one token after the other. Each layer has a cache of the keys and values so far.
type decoder struct {
	m        *model
	caches   []*kernel.Cache
	attender kernel.Attender
	states   []float32 // what came out for each token
	spent    time.Duration
}

func (m *model) newDecoder() (*decoder, error) {
	pool, err := kernel.NewPool(kernel.CacheConfig{KVHeads: m.kvHeads, Dim: m.dim})
	if err != nil {
		return nil, err
	}
	d := &decoder{m: m}
	for range m.layers {
		d.caches = append(d.caches, pool.NewCache())
	}
	return d, nil
}

// generate returns a prompt and what follows it: always the word whose vector is most like the last token's.
func (d *decoder) generate(prompt, tokens int) ([]uint32, error) {
	words := kernel.RowsOf(d.m.words, d.m.width)
	best := make([]kernel.Match, 1)
	var said []uint32
	start := time.Now()
	for i := range tokens {
		next := uint32(7 * i % words.Len())
		if i >= prompt && i > 0 {
			next = best[0].ID
		}
		said = append(said, next)
		x, err := d.step(next, i)
		if err != nil {
			return nil, err
		}
		d.states = append(d.states, x...)
		kernel.TopK(best, kernel.MetricDot, x, words, kernel.ScanOptions{})
	}
	d.spent = time.Since(start)
	return said, nil
}

// step computes the token at a position.
func (d *decoder) step(token uint32, position int) ([]float32, error) {
	m := d.m
	x := m.embed([]uint32{token})
	qkv, heads, y := make([]float32, m.layers[0].qkv.Cols()), make([]float32, m.heads*m.dim), make([]float32, m.width)
	row := func(x []float32) kernel.Matrix { return kernel.RowMajor(x, 1, len(x)) }
	// Heads lie beside each other in a row.
	part := func(from, heads int) kernel.Tensor { return kernel.BSHD(qkv[from*m.dim:], 1, 1, heads, m.dim) }
	q, k, v := part(0, m.heads), part(m.heads, m.kvHeads), part(m.heads+m.kvHeads, m.kvHeads)
	at := kernel.Positions{Offset: position}

	for i, l := range m.layers {
		if err := kernel.MatMul(row(qkv), row(m.norm(x)), l.qkv, kernel.MatMulOptions{}); err != nil {
			return nil, err
		}
		for _, turned := range []kernel.Tensor{q, k} {
			if err := m.rotary.Apply(turned, at); err != nil {
				return nil, err
			}
		}
		out := kernel.BSHD(heads, 1, 1, m.heads, m.dim)
		if err := d.attender.AppendAttend(out, q, k, v, d.caches[i:i+1], kernel.Options{}); err != nil {
			return nil, err
		}
		if err := kernel.MatMul(row(y), row(heads), l.out, kernel.MatMulOptions{}); err != nil {
			return nil, err
		}
		add(x, y)
		if err := m.mlp(l, x); err != nil {
			return nil, err
		}
	}
	return m.norm(x), nil
}

// rate is in tokens a second.
func (d *decoder) rate() float64 { return float64(len(d.states)/d.m.width) / d.spent.Seconds() }

func (d *decoder) bytes() (n int64) {
	for _, c := range d.caches {
		n += c.Bytes()
	}
	return n
}
