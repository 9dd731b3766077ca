package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/quern-go/quern/fuzz"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// formats are those of caches.
var formats = []kernel.Format{kernel.Float32, kernel.BFloat16, kernel.Float16, kernel.Int8}

// stored is a row as a cache keeps it: numbers, and what they are multiplied by.
type stored struct {
	x     []float32
	scale float32
}

// store converts a row as ARITHMETIC.md says.
func store(f kernel.Format, row []float32) stored {
	s := stored{slices.Clone(row), 1}
	largest := 0.0
	for i, x := range row {
		largest = max(largest, math.Abs(float64(x))) // NaN if one is
		switch f {
		case kernel.BFloat16:
			s.x[i] = kernel.ToBF16(x).Float32()
		case kernel.Float16:
			s.x[i] = kernel.ToF16(x).Float32()
		}
	}
	if f != kernel.Int8 {
		return s
	}
	s.scale = float32(largest) / 127
	switch {
	case math.IsNaN(largest) || math.IsInf(largest, 0):
		s.scale = nan
		clear(s.x)
		return s
	case s.scale < 0x1p-126:
		s.scale = 1
	}
	for i, x := range row {
		s.x[i] = float32(math.RoundToEven(float64(float32(x*(1/s.scale))))) + 0
	}
	return s
}

// model is a cache as slices: by head and position, all keys and values that were appended.
type model struct {
	config kernel.CacheConfig
	k, v   [][]stored
}

func newModel(c kernel.CacheConfig) *model {
	return &model{c, make([][]stored, c.KVHeads), make([][]stored, c.KVHeads)}
}

func (m *model) len() int { return len(m.k[0]) }

func (m *model) truncate(n int) {
	for h := range m.k {
		m.k[h], m.v[h] = m.k[h][:n:n], m.v[h][:n:n]
	}
}

func (m *model) fork() *model {
	m.truncate(m.len()) // so that neither appends to the other's memory
	return &model{m.config, slices.Clone(m.k), slices.Clone(m.v)}
}

func (m *model) append(k, v array) {
	for h := range m.k {
		for i := range k.shape[2] {
			m.k[h] = append(m.k[h], store(m.config.Format, k.row(0, h, i)))
			m.v[h] = append(m.v[h], store(m.config.Format, v.row(0, h, i)))
		}
	}
}

// plainState is the state of one row.
type plainState struct {
	m, l float32
	o    []float32
}

var negInf = float32(math.Inf(-1))

func plainGuard(m float32) float32 {
	if m == negInf {
		return 0
	}
	return m
}

// attend is ARITHMETIC.md for one row, step by step: the keys that see shows of a head.
func (m *model) attend(q []float32, factor float32, head int, see func(j int) bool) result {
	var all *plainState
	k, v := m.k[head], m.v[head]
	for span := 0; span < len(k); span += 2048 {
		s, lanes, any := plainState{m: negInf, o: make([]float32, m.config.ValueDim)}, [16]float32{}, false
		for block := span; block < min(span+2048, len(k)); block += 128 {
			var t [128]float32
			best, some := s.m, false
			for j := block; j < min(block+128, len(k)); j++ {
				if !see(j) {
					continue
				}
				some = true
				x := float32(0)
				for d := range q {
					x = portable.FMA(q[d]*factor, k[j].x[d], x)
				}
				if m.config.Format == kernel.Int8 {
					x *= k[j].scale
				}
				t[j-block] = x
				if x > best {
					best = x
				}
			}
			if !some {
				continue
			}
			any = true
			alpha := portable.Exp2(s.m - plainGuard(best+0))
			s.m = best + 0
			for i := range lanes {
				lanes[i] *= alpha
			}
			for c := range s.o {
				s.o[c] *= alpha
			}
			for j := block; j < min(block+128, len(k)); j++ {
				if !see(j) {
					continue
				}
				p := portable.Exp2(t[j-block] - plainGuard(s.m))
				lanes[(j-block)%16] += p
				if m.config.Format == kernel.Int8 {
					p *= v[j].scale
				}
				for c := range s.o {
					s.o[c] = portable.FMA(p, v[j].x[c], s.o[c])
				}
			}
		}
		for half := 8; half > 0; half /= 2 {
			for i := range half {
				lanes[i] += lanes[i+half]
			}
		}
		s.l = lanes[0]
		switch {
		case !any:
		case all == nil:
			all = &s
		default:
			best := all.m
			if s.m > best {
				best = s.m
			}
			best += 0
			wa, wb := portable.Exp2(all.m-plainGuard(best)), portable.Exp2(s.m-plainGuard(best))
			all.m, all.l = best, portable.FMA(s.l, wb, float32(all.l*wa))
			for c := range all.o {
				all.o[c] = portable.FMA(s.o[c], wb, float32(all.o[c]*wa))
			}
		}
	}
	r := result{make([]float32, m.config.ValueDim), []float32{negInf}}
	if all == nil || all.l == 0 {
		return r
	}
	for c, o := range all.o {
		r.out[c] = o/all.l + 0
	}
	r.lse[0] = (all.m + portable.Log2(all.l)) * portable.Ln2
	return r
}

// sees is what query i of so many sees, causal or not, through the window.
func (m *model) sees(i, queries int, causal bool) func(j int) bool {
	position := m.len() - queries + i
	return func(j int) bool {
		return (!causal || j <= position) && (m.config.Window == 0 || j > position-m.config.Window)
	}
}

// churned is a cache and what it should be.
type churned struct {
	cache *kernel.Cache
	model *model
	last  int // keys appended last
}

// churn does random things to the caches of a pool, at random levels, and compares what they give with a
// plain model. It returns how often the pool was exhausted.
func churn(t *testing.T, r *rand.Rand, steps int) (exhausted int) {
	config := kernel.CacheConfig{
		KVHeads: 1 + r.IntN(3), Dim: pick(r, [2]int{1, 5}, [2]int{15, 17}, [2]int{31, 34}), ValueDim: pick(r, [2]int{1, 5}, [2]int{15, 17}, [2]int{31, 34}),
		Format: formats[r.IntN(len(formats))], PageKeys: 128 * (1 + r.IntN(2)),
	}
	if r.IntN(3) == 0 {
		config.Window = pick(r, [2]int{1, 3}, [2]int{100, 300})
	}
	probe, err := kernel.NewPool(config)
	require.NoError(t, err)
	config.MaxBytes = int64(probe.PageBytes() * pick(r, [2]int{3, 6}, [2]int{20, 30}))
	pool, err := kernel.NewPool(config)
	require.NoError(t, err)
	source := fuzz.NewSource(r.Uint64(), 0)
	all := []*churned{{pool.NewCache(), newModel(config), 0}}
	for range steps {
		restore := isa.Use(isa.Supported()[r.IntN(len(isa.Supported()))])
		n := r.IntN(len(all))
		c := all[n]
		switch op := r.IntN(17); {
		case op < 7:
			rows := pick(r, [2]int{1, 1}, [2]int{1, 40}, [2]int{32, 32}, [2]int{100, 300})
			k, v := drawRows(r, source, config.KVHeads, rows, config.Dim), drawRows(r, source, config.KVHeads, rows, config.ValueDim)
			before := pool.Bytes()
			if err := c.cache.Append(k.as(r), v.as(r)); err != nil {
				require.ErrorIs(t, err, kernel.ErrPool)
				require.Equal(t, before, pool.Bytes())
				exhausted++
			} else {
				c.model.append(k.array, v.array)
				c.last = rows
			}
		case op < 9 && c.model.len() > 0:
			back := c.last
			if config.Window == 0 && r.IntN(3) == 0 {
				back = c.model.len()
			}
			to := c.model.len() - r.IntN(back+1)
			require.NoError(t, c.cache.Truncate(to))
			c.model.truncate(to)
			c.last = max(0, c.last-back)
		case op == 9 && len(all) < 6:
			all = append(all, &churned{c.cache.Fork(), c.model.fork(), c.last})
		case op == 10 && len(all) > 1:
			c.cache.Free()
			require.Error(t, c.cache.Append(drawRows(r, source, config.KVHeads, 1, config.Dim).as(r), drawRows(r, source, config.KVHeads, 1, config.ValueDim).as(r)))
			all = slices.Delete(all, n, n+1)
		case op == 11 && r.IntN(4) == 0:
			c.cache.Reset()
			c.model.truncate(0)
			c.last = 0
		case op < 14:
			if growSome(t, r, source, config, all) {
				exhausted++
			}
		default:
			attendSome(t, r, source, config, all)
		}
		require.LessOrEqual(t, pool.Bytes(), config.MaxBytes)
		require.Equal(t, config.MaxBytes/int64(pool.PageBytes())*int64(pool.PageBytes()), pool.Bytes()+pool.FreeBytes())
		for _, c := range all {
			require.Equal(t, c.model.len(), c.cache.Len())
		}
		restore()
	}
	for _, c := range all {
		c.cache.Free()
	}
	require.Zero(t, pool.Bytes())
	return exhausted
}

// numbers are rows to be appended, all of a type of element.
type numbers struct {
	array
	element kernel.Format
}

func drawRows(r *rand.Rand, source *fuzz.Source, heads, rows, dim int) numbers {
	n := numbers{element: formats[r.IntN(3)]}
	l, gap := layouts[r.IntN(len(layouts))], r.IntN(5)
	m := l.lay(1, heads, rows, dim, gap)
	data := make([]float32, (m.rows-1)*m.pitch+m.cols)
	for i := range data {
		data[i] = store(n.element, []float32{source.Float32()}).x[0]
	}
	n.array = array{data, [4]int{1, heads, rows, dim}, m.stride}
	return n
}

// as returns the rows as a tensor of their type.
func (n numbers) as(*rand.Rand) kernel.Tensor {
	switch n.element {
	case kernel.BFloat16:
		return kernel.Strided(narrowed[kernel.BF16](n.data), n.shape, n.stride)
	case kernel.Float16:
		return kernel.Strided(narrowed[kernel.F16](n.data), n.shape, n.stride)
	}
	return n.tensor()
}

func narrowed[T kernel.Half](x []float32) []T {
	h := make([]T, len(x))
	kernel.Narrow(h, x)
	return h
}

// attendSome attends from some of the caches in one call, some of them several times.
func attendSome(t *testing.T, r *rand.Rand, source *fuzz.Source, config kernel.CacheConfig, all []*churned) {
	var caches []*kernel.Cache
	var chosen []*churned
	cum := []int{0}
	equal := r.IntN(2) == 0
	most := pick(r, [2]int{1, 1}, [2]int{2, 9})
	for range 1 + r.IntN(3) {
		c := all[r.IntN(len(all))]
		queries := most
		if !equal {
			queries = r.IntN(most + 1)
		}
		if config.Window > 0 && queries > c.last {
			continue
		}
		caches, chosen = append(caches, c.cache), append(chosen, c)
		cum = append(cum, cum[len(cum)-1]+queries)
	}
	batch := drawBatch(r, source, config, chosen, cum, equal)
	require.NoError(t, kernel.Attend(batch.out.tensor(), batch.q.tensor(), caches, batch.opts))
	batch.requireModel(t)
}

// batch is queries of some caches, and what comes out.
type batch struct {
	config kernel.CacheConfig
	chosen []*churned
	cum    []int // queries before each sequence
	group  int   // query heads that share a key/value head
	equal  bool  // not packed
	causal bool
	opts   kernel.Options
	q, out array
}

func drawBatch(r *rand.Rand, source *fuzz.Source, config kernel.CacheConfig, chosen []*churned, cum []int,
	equal bool) batch {
	b := batch{config: config, chosen: chosen, cum: cum, group: 1 + r.IntN(4), equal: equal, causal: r.IntN(2) == 0}
	total, heads := cum[len(cum)-1], b.group*config.KVHeads
	b.opts.Workers = 1 + r.IntN(3)
	if b.causal {
		b.opts.Mask = kernel.Causal{}
	}
	entries := len(chosen)
	if !equal {
		b.opts.Ragged.CumQueries, entries = cum, 1
	}
	each := total / max(entries, 1)
	b.q = dense(make([]float32, total*heads*config.Dim), entries, heads, each, config.Dim)
	for i := range b.q.data {
		b.q.data[i] = source.Float32()
	}
	b.out = dense(make([]float32, total*heads*config.ValueDim), entries, heads, each, config.ValueDim)
	b.opts.LSE = make([]float32, total*heads)
	return b
}

// requireModel compares what has come out, or some of it, with the models of the caches.
func (b *batch) requireModel(t *testing.T) {
	factor, heads := float32(math.Log2E/math.Sqrt(float64(b.config.Dim))), b.q.shape[1]
	for n, c := range b.chosen {
		queries := b.cum[n+1] - b.cum[n]
		for i := 0; i < queries; i += 1 + queries/4 { // the model is slow
			entry, position := n, i
			if !b.equal {
				entry, position = 0, b.cum[n]+i
			}
			for h := range heads {
				want := c.model.attend(b.q.row(entry, h, position), factor, h/b.group,
					c.model.sees(i, queries, b.causal))
				got := result{b.out.row(entry, h, position), b.opts.LSE[(entry*heads+h)*b.q.shape[2]+position:][:1]}
				requireSame(t, want, got, "config ", fmt.Sprintf("%+v", b.config), ", ", c.model.len(),
					" keys, query ", i,
					" of head ", h, " of sequence ", n, ", causal ", b.causal)
			}
		}
	}
}

// growSome appends to some of the caches in one call, and attends. It reports whether the pool was exhausted.
func growSome(t *testing.T, r *rand.Rand, source *fuzz.Source, config kernel.CacheConfig,
	all []*churned) (exhausted bool) {
	var caches []*kernel.Cache
	var chosen []*churned
	cum, equal := []int{0}, r.IntN(2) == 0
	rows := func() int {
		if isa.Active() != isa.Go && r.IntN(6) == 0 {
			return 260 + r.IntN(300) // more than a page
		}
		return pick(r, [2]int{1, 1}, [2]int{1, 40}, [2]int{129, 150})
	}
	most := rows()
	for _, n := range r.Perm(len(all))[:1+r.IntN(min(len(all), 3))] {
		if !equal {
			most = r.IntN(2) * rows()
		}
		caches, chosen = append(caches, all[n].cache), append(chosen, all[n])
		cum = append(cum, cum[len(cum)-1]+most)
	}
	b := drawBatch(r, source, config, chosen, cum, equal)
	s := b.q.shape
	k, v := floats(s[0]*config.KVHeads*s[2]*config.Dim), floats(s[0]*config.KVHeads*s[2]*config.ValueDim)
	for _, x := range [][]float32{k, v} {
		for i := range x {
			x[i] = source.Float32()
		}
	}
	keys := dense(k, s[0], config.KVHeads, s[2], config.Dim)
	values := dense(v, s[0], config.KVHeads, s[2], config.ValueDim)
	before := chosen[0].cache.Pool().Bytes()
	if err := kernel.AppendAttend(b.out.tensor(), b.q.tensor(), keys.tensor(), values.tensor(), caches,
		b.opts); err != nil {
		require.ErrorIs(t, err, kernel.ErrPool)
		require.Equal(t, before, chosen[0].cache.Pool().Bytes())
		return true
	}
	for n, c := range chosen {
		entry, from, to := n, 0, cum[n+1]-cum[n]
		if !equal {
			entry, from, to = 0, cum[n], cum[n+1]
		}
		c.model.append(keys.part(entry, from, to), values.part(entry, from, to))
		c.last = min(to-from, config.PageKeys)
	}
	b.requireModel(t)
	return false
}

func TestCachesAgainstModel(t *testing.T) {
	exhausted := 0
	for seed := range few(150) {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			exhausted += churn(t, rand.New(rand.NewPCG(uint64(seed), 20)), 60)
		}) {
			return
		}
	}
	require.NotZero(t, exhausted)
}

func FuzzCaches(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) { churn(t, rand.New(rand.NewPCG(a, b)), 100) })
}

// TestDecodingIsPrefilling: tokens that are appended and attended in chunks, or one by one, get the bits of
// one prefill over the converted keys, for any number of workers; and so do 16-bit tensors without a cache.
func TestDecodingIsPrefilling(t *testing.T) {
	fuzz.Levels(t, func(t *testing.T, level isa.Level) {
		long := 4200
		if race || testing.Short() || level == isa.Go {
			long = 2200
		}
		for _, c := range []struct {
			keys, group int
			chunks      []int
		}{
			{300, 2, []int{1}},
			{300, 3, []int{97, 1, 128, 2, 3}},
			{300, 1, []int{300}},
			{long, 1, []int{long - 100, 1, 1, 30}},
		} {
			if level == isa.Go && (race || testing.Short()) && c.keys > 300 {
				continue
			}
			for _, format := range formats[:3] {
				shape := kernel.Shape{Batch: 1, Heads: 2 * c.group, KVHeads: 2, Queries: c.keys, Keys: c.keys, Dim: 20, ValueDim: 18}
				p := normalProblem(30, shape, kernel.Options{Mask: kernel.Causal{}})
				cache, err := kernel.NewCache(kernel.CacheConfig{KVHeads: 2, Dim: 20, ValueDim: 18, Format: format})
				require.NoError(t, err)
				converted := p.copy()
				for _, x := range []array{converted.k, converted.v} {
					copy(x.data, store(format, x.data).x)
				}
				want := converted.run(t, 0)
				direct := result{make([]float32, len(want.out)), make([]float32, len(want.lse))}
				opts := p.opts
				opts.LSE = direct.lse
				out := dense(direct.out, 1, shape.Heads, c.keys, 18)
				k, v := numbers{converted.k, format}.as(nil), numbers{converted.v, format}.as(nil)
				require.NoError(t, kernel.Attention(out.tensor(), p.q.tensor(), k, v, opts))
				requireSame(t, want, direct, format)

				for from, n := 0, 0; from < c.keys; n++ {
					to := min(from+c.chunks[n%len(c.chunks)], c.keys)
					require.NoError(t, cache.Append(p.k.part(0, from, to).tensor(), p.v.part(0, from, to).tensor()))
					chunk := problem{q: p.q.part(0, from, to)}
					rows := shape.Heads * (to - from)
					got := result{make([]float32, rows*18), make([]float32, rows)}
					out := dense(got.out, 1, shape.Heads, to-from, 18)
					opts := kernel.Options{Mask: kernel.Causal{}, LSE: got.lse, Workers: 1 + n%3}
					require.NoError(t, kernel.Attend(out.tensor(), chunk.q.tensor(), []*kernel.Cache{cache}, opts))
					for h := range shape.Heads {
						for i := range to - from {
							requireSame(t, want.row(h*c.keys+from+i), got.row(h*(to-from)+i), format, ", query ", from+i, ", head ", h)
						}
					}
					from = to
				}
			}
		}
	})
}

// TestElementTypes: q, k and v of any type give the bits of the converted.
func TestElementTypes(t *testing.T) {
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		for seed := range few(60) {
			r := rand.New(rand.NewPCG(uint64(seed), 21))
			shape, opts := drawShape(r, 1<<17)
			p := normalProblem(uint64(seed), shape, opts)
			var typed [3]kernel.Tensor
			for i, x := range []*array{&p.q, &p.k, &p.v} {
				n := numbers{*x, formats[r.IntN(3)]}
				copy(x.data, store(n.element, x.data).x)
				typed[i] = n.as(nil)
			}
			want := p.run(t, 1)
			got := result{make([]float32, len(want.out)), make([]float32, len(want.lse))}
			p.opts.LSE = got.lse
			out := dense(got.out, shape.Batch, shape.Heads, shape.Queries, shape.ValueDim)
			require.NoError(t, kernel.Attention(out.tensor(), typed[0], typed[1], typed[2], p.opts))
			requireSame(t, want, got, "seed ", seed)
		}
	})
}

// TestManyWorkersOnOneHead: a head's spans are shared out, and folded in order.
func TestManyWorkersOnOneHead(t *testing.T) {
	long := 9000
	if race || testing.Short() {
		long = 4200
	}
	for _, c := range []struct{ queries, keys int }{{1, 30_001}, {2, 4097}, {200, long}} {
		shape := kernel.Shape{Batch: 1, Heads: 3, KVHeads: 1, Queries: c.queries, Keys: c.keys, Dim: 8, ValueDim: 16}
		for _, opts := range []kernel.Options{{}, {Mask: kernel.Causal{}}, {Mask: kernel.Causal{Align: kernel.TopLeft}}, {Mask: kernel.Causal{Offset: []int{2100}}}} {
			p := normalProblem(40, shape, opts)
			want := p.run(t, 1)
			for _, workers := range []int{2, 3, 16} {
				requireSame(t, want, p.run(t, workers), workers, " workers, ", p)
			}
		}
	}
}

// TestManyReadersOneWriter is for the race detector: readers of a cache and its forks while it grows and shrinks.
func TestManyReadersOneWriter(t *testing.T) {
	defer isa.Use(isa.Go)() // assembly is invisible to the race detector
	config := kernel.CacheConfig{KVHeads: 2, Dim: 4, ValueDim: 5, Format: kernel.BFloat16}
	pool, err := kernel.NewPool(config)
	require.NoError(t, err)
	a := pool.NewCache()
	k, v := normalProblem(50, kernel.Shape{Batch: 1, Heads: 2, KVHeads: 2, Queries: 1, Keys: 100, Dim: 4, ValueDim: 5}, kernel.Options{}).k, array{}
	v = dense(normal(rand.New(rand.NewPCG(51, 0)), 2*100*5), 1, 2, 100, 5)
	require.NoError(t, a.Append(k.tensor(), v.tensor()))
	b := a.Fork()
	var all sync.WaitGroup
	for n, c := range []*kernel.Cache{a, b} {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := range 60 {
				if err := c.Append(k.part(0, 0, 1+i%40).tensor(), v.part(0, 0, 1+i%40).tensor()); err != nil {
					t.Error(err)
				}
				if i%7 == n {
					if err := c.Truncate(90); err != nil {
						t.Error(err)
					}
				}
				if i%9 == n {
					c.Fork().Free()
				}
			}
		}()
	}
	for n := range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			order := []*kernel.Cache{a, b, a}
			if n%2 == 1 {
				order = []*kernel.Cache{b, a, b}
			}
			q, out := make([]float32, 3*4*4), make([]float32, 3*4*5)
			for range 30 {
				if err := kernel.Attend(kernel.BHSD(out, 3, 4, 1, 5), kernel.BHSD(q, 3, 4, 1, 4), order, kernel.Options{Workers: 2}); err != nil {
					t.Error(err)
				}
				_, _, _ = a.Len(), b.Bytes(), pool.FreeBytes()
			}
		}()
	}
	all.Wait()
	a.Free()
	b.Free()
	require.Zero(t, pool.Bytes())
}

// TestWindowGivesPagesBack: a windowed cache stays small, and says so when it is asked for what is gone.
func TestWindowGivesPagesBack(t *testing.T) {
	config := kernel.CacheConfig{KVHeads: 1, Dim: 4, Window: 200}
	c, err := kernel.NewCache(config)
	require.NoError(t, err)
	token := make([]float32, 4)
	for range 5000 {
		require.NoError(t, c.Append(kernel.BHSD(token, 1, 1, 1, 4), kernel.BHSD(token, 1, 1, 1, 4)))
	}
	require.Equal(t, 5000, c.Len())
	require.LessOrEqual(t, c.Bytes(), int64(4*c.Pool().PageBytes()))
	require.NoError(t, c.Truncate(4999))
	require.ErrorIs(t, c.Truncate(3000), kernel.ErrOption)
	out, q := make([]float32, 2000*4), make([]float32, 2000*4)
	attend := func(n int) error {
		return kernel.Attend(kernel.BHSD(out[:n*4], 1, 1, n, 4), kernel.BHSD(q[:n*4], 1, 1, n, 4), []*kernel.Cache{c}, kernel.Options{})
	}
	require.NoError(t, attend(1))
	require.ErrorIs(t, attend(2000), kernel.ErrOption)
	require.NoError(t, c.Truncate(0))
	require.NoError(t, attend(1))
}

func TestCachesDoNotAllocate(t *testing.T) {
	if race {
		t.Skip("the race detector allocates")
	}
	for _, format := range formats {
		for _, window := range []int{0, 300} {
			pool, err := kernel.NewPool(kernel.CacheConfig{KVHeads: 2, Dim: 16, Format: format, Window: window})
			require.NoError(t, err)
			a, b := pool.NewCache(), pool.NewCache()
			token := make([]float32, 32*1000)
			prompt := kernel.BHSD(token, 1, 2, 1000, 16)
			one := kernel.BHSD(token, 1, 2, 1, 16)
			require.NoError(t, a.Append(prompt, prompt))
			require.NoError(t, b.Append(prompt, prompt))
			caches := []*kernel.Cache{a, b}
			out := make([]float32, 2*8*16)
			var attender kernel.Attender
			step := func() {
				for _, c := range caches {
					if err := c.Append(one, one); err != nil {
						t.Error(err)
					}
				}
				if err := attender.Attend(kernel.BHSD(out, 2, 8, 1, 16), kernel.BHSD(out, 2, 8, 1, 16), caches, kernel.Options{Workers: 1, Mask: kernel.Causal{}}); err != nil {
					t.Error(err)
				}
			}
			step()
			require.Zero(t, testing.AllocsPerRun(15, step), "%v, window %d", format, window)
		}
	}
}

func TestCacheErrors(t *testing.T) {
	good := kernel.CacheConfig{KVHeads: 2, Dim: 4, ValueDim: 3}
	for _, c := range []struct {
		change func(*kernel.CacheConfig)
		kind   error
	}{
		{func(c *kernel.CacheConfig) { c.KVHeads = 0 }, kernel.ErrShape},
		{func(c *kernel.CacheConfig) { c.Dim = -1 }, kernel.ErrShape},
		{func(c *kernel.CacheConfig) { c.Format = 9 }, kernel.ErrFormat},
		{func(c *kernel.CacheConfig) { c.Window = -1 }, kernel.ErrOption},
		{func(c *kernel.CacheConfig) { c.PageKeys = 100 }, kernel.ErrOption},
		{func(c *kernel.CacheConfig) { c.MaxBytes = 1 }, kernel.ErrOption},
	} {
		config := good
		c.change(&config)
		_, err := kernel.NewCache(config)
		require.ErrorIs(t, err, c.kind)
	}

	c, err := kernel.NewCache(good)
	require.NoError(t, err)
	other, err := kernel.NewCache(kernel.CacheConfig{KVHeads: 1, Dim: 4})
	require.NoError(t, err)
	freed := c.Fork()
	freed.Free()
	x := make([]float32, 1000)
	require.ErrorIs(t, c.Append(kernel.BHSD(x, 1, 2, 1, 3), kernel.BHSD(x, 1, 2, 1, 3)), kernel.ErrShape)
	require.ErrorIs(t, c.Append(kernel.BHSD(x, 1, 2, 2, 4), kernel.BHSD(x, 1, 2, 1, 3)), kernel.ErrShape)
	require.ErrorIs(t, c.Truncate(1), kernel.ErrOption)
	require.ErrorIs(t, c.Truncate(-1), kernel.ErrOption)
	q, out := kernel.BHSD(x[:8], 1, 2, 1, 4), kernel.BHSD(x[100:106], 1, 2, 1, 3)
	one := []*kernel.Cache{c}
	for _, bad := range []struct {
		out, q kernel.Tensor
		caches []*kernel.Cache
		opts   kernel.Options
		kind   error
	}{
		{out, q, []*kernel.Cache{nil}, kernel.Options{}, kernel.ErrOption},
		{out, q, []*kernel.Cache{other}, kernel.Options{}, kernel.ErrShape},
		{out, q, []*kernel.Cache{c, other}, kernel.Options{}, kernel.ErrShape},
		{out, q, []*kernel.Cache{c, c}, kernel.Options{}, kernel.ErrShape},
		{out, q, []*kernel.Cache{freed}, kernel.Options{}, kernel.ErrOption},
		{out, q, one, kernel.Options{KeyOffset: 2048}, kernel.ErrOption},
		{out, q, one, kernel.Options{LSE: x[:1]}, kernel.ErrShape},
		{out, q, one, kernel.Options{Ragged: kernel.Ragged{KeyCount: []int{0}}}, kernel.ErrOption},
		{out, q, one, kernel.Options{Ragged: kernel.Ragged{CumQueries: []int{0, 1, 1}}}, kernel.ErrShape},
		{out, q, one, kernel.Options{Ragged: kernel.Ragged{CumQueries: []int{0, 2}}}, kernel.ErrOption},
		{kernel.BHSD(x[4:10], 1, 2, 1, 3), q, one, kernel.Options{}, kernel.ErrOverlap},
		{kernel.BHSD(make([]kernel.F16, 6), 1, 2, 1, 3), q, one, kernel.Options{}, kernel.ErrFormat},
	} {
		require.ErrorIs(t, kernel.Attend(bad.out, bad.q, bad.caches, bad.opts), bad.kind)
	}
	require.NoError(t, kernel.Attend(out, q, one, kernel.Options{}))
	require.NoError(t, kernel.Attend(kernel.BHSD[float32](nil, 0, 2, 1, 3), kernel.BHSD[float32](nil, 0, 2, 1, 4), nil, kernel.Options{}))
}
