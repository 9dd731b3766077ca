package kernel

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"unsafe"

	"github.com/quern-go/quern/internal/sysmem"
)

// CacheConfig describes the keys and values that a [Pool] or [Cache] holds.
type CacheConfig struct {
	KVHeads  int // key/value heads
	Dim      int // width of a key
	ValueDim int // width of a value; 0 means Dim
	// Format is how keys and values are stored. The zero value is Float32.
	Format Format
	// Window is the number of keys that a query sees, its own position included: a query at position p
	// sees the keys p-Window+1 to p at most. Pages that no later query can see are given back.
	// 0 means that all keys stay.
	Window int
	// PageKeys is the number of keys of a page, a multiple of 128. 0 means 512: int8 is read 5 % faster
	// than in pages of 128. Keys and values of a head lie together within a page: sequences of many thousand keys are
	// read up to 10 % faster in pages of 2048, which also take more memory where sequences are short.
	PageKeys int
	// MaxBytes bounds the memory of all pages together, in bytes; at least one page must fit. 0 means no
	// bound.
	MaxBytes int64
}

// ErrPool is the kind of error that reports a [Pool] without enough free pages, for errors.Is. The cache
// that asked for them has not changed.
var ErrPool = errors.New("page pool is exhausted")

// poolError is an error of that kind.
type poolError struct {
	function                string
	wanted, bytes, free, of int // pages, and the size of one
}

func (e *poolError) Error() string {
	return fmt.Sprintf("quern: %s: %v: %d pages of %d bytes are needed, %d of %d are free",
		e.function, ErrPool, e.wanted, e.bytes, e.free, e.of)
}

func (e *poolError) Unwrap() error { return ErrPool }

// Pool is memory for the keys and values of many sequences: pages of equal size, which a [Cache] of each takes as
// it grows; caches share them after a [Cache.Fork], and give back. Pages are allocated when they are first needed and
// then used again; [Pool.Trim] gives up those that nobody has.
//
// All methods may be called at any time from any goroutine. [NewPool] makes it; the zero Pool has no pages to give.
type Pool struct {
	config CacheConfig
	layout pageLayout

	mu     sync.Mutex
	free   []*page
	pages  int // allocated so far, free or not
	most   int // how many there may be
	held   int // of those that can be taken, how many are promised
	caches uint64
}

// page holds some blocks of every key/value head. A page that several caches share is not written.
type page struct {
	memory []float32 // whatever the format is
	finite []bool    // by head and block: every element of V is finite
	refs   int       // caches that hold it, guarded by the pool's mutex
	slab   *slab     // what it is part of
}

// slab is pages that were allocated together.
type slab struct {
	pages int
	free  int // of those, while Trim counts
}

// pageLayout says where things are in a page. The blocks of a head lie one behind the other, each, with int8, the scales
// of 128 keys and 128 values, then K and V: what is asked for while a block ends is what the next begins with.
//
// A panel of K with all its 32 keys is dimension-major, as products want it. The last, as long as it
// lacks keys, is row-major: one key more then touches few cache lines instead of one for every dimension.
type pageLayout struct {
	format        Format
	dim, valueDim int
	blocks        int // of a head
	k, v          int // bytes from the start of a block, where the scales are if there are any
	block         int // bytes of a block
	bytes         int // of a page
}

// blockGap is left behind each block, in bytes: heads at multiples of a large power of two would
// all compete for the same few sets of the caches when a key is appended to each of them. More than a line would only lie
// between what is read one after the other: int8 in pages of 2048 keys is 8 to 10 % faster than with 17.
const blockGap = 64

func (c CacheConfig) layout() pageLayout {
	l := pageLayout{format: c.Format, dim: c.Dim, valueDim: c.ValueDim, blocks: c.PageKeys / blockKeys}
	if c.Format == Int8 {
		l.k = 2 * blockKeys * 4
	}
	l.v = l.k + roundUp(blockKeys*c.Dim*c.Format.size(), 64)
	l.block = l.v + blockKeys*roundUp(c.ValueDim, panel)*c.Format.size() + blockGap
	l.bytes = c.KVHeads * l.blocks * l.block
	return l
}

// pageBlock is one block of one head.
type pageBlock struct {
	k, v           unsafe.Pointer // of which k is behind the scales
	kScale, vScale *float32       // with int8
	finite         *bool
}

func (l *pageLayout) at(p *page, head, block int) pageBlock {
	n := head*l.blocks + block
	return l.on(unsafe.Add(unsafe.Pointer(unsafe.SliceData(p.memory)), n*l.block), &p.finite[n])
}

// on is a block in some memory.
func (l *pageLayout) on(base unsafe.Pointer, finite *bool) pageBlock {
	b := pageBlock{k: unsafe.Add(base, l.k), v: unsafe.Add(base, l.v), finite: finite}
	if l.format == Int8 {
		b.kScale = (*float32)(base)
		b.vScale = offset(b.kScale, blockKeys)
	}
	return b
}

// base is where a block begins.
func (b *pageBlock) base(l *pageLayout) unsafe.Pointer { return unsafe.Add(b.k, -l.k) }

// NewPool returns a pool without pages: memory is allocated as caches need it, and stays with the pool.
// Errors are of type [*ArgumentError].
func NewPool(config CacheConfig) (*Pool, error) {
	p, err := newPool(config)
	return p, in("NewPool", err)
}

func newPool(config CacheConfig) (*Pool, error) {
	if config.ValueDim == 0 {
		config.ValueDim = config.Dim
	}
	if config.PageKeys == 0 {
		config.PageKeys = 4 * blockKeys
	}
	const most = 1 << 20
	for _, size := range []struct {
		name string
		n    int
	}{
		{"CacheConfig.KVHeads", config.KVHeads}, {"CacheConfig.Dim", config.Dim}, {"CacheConfig.ValueDim", config.ValueDim},
	} {
		if size.n < 1 || size.n > most {
			return nil, argument(ErrShape, size.name, "is %d, want 1 to %d", size.n, most)
		}
	}
	if config.Format >= formats {
		return nil, argument(ErrFormat, "CacheConfig.Format", "is %d, which does not exist", config.Format)
	}
	if config.Window < 0 {
		return nil, argument(ErrOption, "CacheConfig.Window", "is %d, want 0 or more", config.Window)
	}
	if config.PageKeys < 0 || config.PageKeys%blockKeys != 0 || config.PageKeys > most {
		return nil, argument(ErrOption, "CacheConfig.PageKeys", "is %d, want a multiple of %d up to %d", config.PageKeys, blockKeys, most)
	}
	if !fits(config.KVHeads, config.PageKeys, config.Dim+config.ValueDim+2*panel) {
		return nil, argument(ErrShape, "CacheConfig", "has pages of %d keys for %d heads, %d and %d wide: more than %d numbers",
			config.PageKeys, config.KVHeads, config.Dim, config.ValueDim, maxNumbers)
	}
	config.Window = min(config.Window, maxSize) // no sequence is longer
	p := &Pool{config: config, layout: config.layout(), most: maxInt}
	if config.MaxBytes != 0 {
		if config.MaxBytes < int64(p.layout.bytes) {
			return nil, argument(ErrOption, "CacheConfig.MaxBytes", "is %d, a page has %d bytes", config.MaxBytes, p.layout.bytes)
		}
		p.most = int(min(config.MaxBytes/int64(p.layout.bytes), int64(maxInt)))
	}
	return p, nil
}

// PageBytes returns the size of a page in bytes: keys, values filled up to a multiple of 32 columns, scales, and
// 64 bytes more for each 128 keys of a head.
func (p *Pool) PageBytes() int {
	mustNotNil(p, "Pool", "PageBytes")
	return p.layout.bytes
}

// Bytes returns the memory of the pages that caches hold, in bytes, shared pages counted once.
func (p *Pool) Bytes() int64 {
	mustNotNil(p, "Pool", "Bytes")
	p.mu.Lock()
	defer p.mu.Unlock()
	return int64(p.pages-len(p.free)) * int64(p.layout.bytes)
}

// FreeBytes returns the memory of the pages that caches can still take: those that were given back, and
// those that MaxBytes allows besides. Without MaxBytes it is close to the largest int64.
func (p *Pool) FreeBytes() int64 {
	mustNotNil(p, "Pool", "FreeBytes")
	p.mu.Lock()
	defer p.mu.Unlock()
	n, bytes := p.available(), int64(p.layout.bytes)
	return min(int64(n), math.MaxInt64/max(bytes, 1)) * bytes
}

// Trim gives up pages that no cache has, and returns how many bytes that is. Pages are allocated many together, and the
// garbage collector frees them when all of those are given up; debug.FreeOSMemory of package runtime/debug has the
// system get them back at once. Where the system is Linux, it gets back the memory of the others at once too, which
// are kept.
func (p *Pool) Trim() int64 {
	mustNotNil(p, "Pool", "Trim")
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.free {
		g.slab.free++
	}
	given := len(p.free)
	p.free = slices.DeleteFunc(p.free, func(g *page) bool {
		whole := g.slab.free == g.slab.pages
		if whole {
			p.pages--
		} else {
			sysmem.Discard(g.memory)
		}
		return whole
	})
	for _, g := range p.free {
		g.slab.free = 0
	}
	return int64(given) * int64(p.layout.bytes)
}

// available is how many pages can be taken that nobody holds. The mutex is held.
func (p *Pool) available() int { return p.most - p.pages + len(p.free) - p.held }

// hold keeps n pages for an exchange that will come.
func (p *Pool) hold(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.available(); n > have {
		return &poolError{wanted: n, bytes: p.layout.bytes, free: have, of: p.most}
	}
	p.held += n
	return nil
}

// unhold gives up pages that were held.
func (p *Pool) unhold(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held -= n
}

// exchange gives pages back and appends n others to got, or returns an error and does neither. So many were held
// for it, and are so no more.
func (p *Pool) exchange(back []*page, got []*page, n, held int) ([]*page, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held -= held
	freed := 0
	for _, g := range back {
		if g.refs == 1 {
			freed++
		}
	}
	if have := p.available() + freed; n > have {
		return got, &poolError{wanted: n, bytes: p.layout.bytes, free: have, of: p.most}
	}
	p.release(back)
	for range n {
		got = append(got, p.take())
	}
	return got, nil
}

// release gives pages back. The mutex is held.
func (p *Pool) release(back []*page) {
	for _, g := range back {
		if g.refs--; g.refs == 0 {
			p.free = append(p.free, g)
		}
	}
}

// take returns a page of which there must be one. The mutex is held.
func (p *Pool) take() *page {
	if len(p.free) == 0 {
		p.allocate()
	}
	n := len(p.free) - 1
	g := p.free[n]
	p.free = p.free[:n]
	g.refs = 1
	return g
}

// slabBytes is the most memory that is allocated at once, unless a page is larger.
const slabBytes = 32 << 20

// allocate adds free pages: as many as there are, so that their memory soon lies in large pieces, and
// few where few are needed.
func (p *Pool) allocate() {
	n := min(max(p.pages, 1), max(slabBytes/p.layout.bytes, 1), p.most-p.pages)
	words, blocks := roundUp(p.layout.bytes, 64)/4, p.config.KVHeads*p.layout.blocks
	memory, finite := grow(nil, n*words), make([]bool, n*blocks)
	sysmem.AskLarge(memory)
	s := &slab{pages: n}
	for i := range n {
		p.free = append(p.free, &page{memory: memory[i*words:][:words], finite: finite[i*blocks:][:blocks], slab: s})
	}
	p.pages += n
}
