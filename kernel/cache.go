package kernel

import "slices"

// Cache holds the keys and values of one sequence, for all its key/value heads, in the order and
// format in which attention reads them: for queries that come later, as in generating text.
//
// The key at position j is the j-th that was appended. [Attend] computes attention over it; results have
// the bits of [Attention] over the same keys, however they were appended: for float32 those that were
// given, for bfloat16 and float16 those converted, and for int8 of the formula in ARITHMETIC.md.
//
// A Cache may be used from many goroutines: any number may read it in Attend or Fork it at the same
// time, and a call that changes it waits for them and keeps others waiting. Caches that share pages do
// not wait for each other.
//
// A [ScoreFunc] or [MaskFunc] runs while Attend reads the caches. It may read them too, by Len, Bytes, Fork or another
// Attend. It must not change one of them: Append, Truncate, Reset and Free wait until the Attend is done that
// called it, for ever.
//
// [NewCache] or [Pool.NewCache] makes it; the zero Cache is empty and stays so.
type Cache struct {
	pool *Pool
	id   uint64 // callers that hold several locks take them in this order

	lock   lock
	closed bool
	len    int     // position behind the last key
	packed int     // panels that begin before this position are dimension-major; a multiple of 32
	first  int     // number of the first page that is kept
	pages  []*page // from there on
}

// NewCache returns an empty cache with a pool of its own. Errors are of type [*ArgumentError]. No page
// is allocated before keys are appended.
func NewCache(config CacheConfig) (*Cache, error) {
	p, err := NewPool(config)
	if err != nil {
		return nil, in("NewCache", err)
	}
	return p.NewCache(), nil
}

// NewCache returns an empty cache whose pages come from p.
func (p *Pool) NewCache() *Cache {
	mustNotNil(p, "Pool", "NewCache")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.caches++
	return &Cache{pool: p, id: p.caches}
}

// Pool returns the pool that c takes its pages from.
func (c *Cache) Pool() *Pool {
	mustNotNil(c, "Cache", "Pool")
	return c.pool
}

// Len returns the position behind the last key: the number of keys, those included that a window has
// left behind.
func (c *Cache) Len() int {
	mustNotNil(c, "Cache", "Len")
	c.lock.read(false)
	defer c.lock.unread(false)
	return c.len
}

// Bytes returns the memory of the pages that c holds, in bytes, those included that it shares.
func (c *Cache) Bytes() int64 {
	mustNotNil(c, "Cache", "Bytes")
	c.lock.read(false)
	defer c.lock.unread(false)
	if len(c.pages) == 0 {
		return 0
	}
	return int64(len(c.pages)) * int64(c.pool.layout.bytes)
}

// Fork returns a cache with the same keys, which shares all pages with c until one of them writes: only the last
// page is ever copied. The two are alike from there on, whichever is freed first. A fork of a freed cache is empty.
func (c *Cache) Fork() *Cache {
	mustNotNil(c, "Cache", "Fork")
	if c.pool == nil {
		return new(Cache)
	}
	f := c.pool.NewCache()
	c.lock.read(false)
	defer c.lock.unread(false)
	f.len, f.packed, f.first = c.len, c.packed, c.first
	f.pages = slices.Clone(c.pages)
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	for _, g := range f.pages {
		g.refs++
	}
	return f
}

// Truncate forgets all keys from position n on, as after speculative decoding, and gives back the pages
// that it no longer needs. n must be 0 to Len. With a window, n must be 0 or such that the keys which a query
// at position n sees are still there: as far back as the keys appended last is always possible. Otherwise
// the error is an [*ArgumentError], and nothing has changed.
func (c *Cache) Truncate(n int) error { return in("Cache.Truncate", c.checkedTruncate(n)) }

func (c *Cache) checkedTruncate(n int) error {
	if err := notNil(c, "Cache"); err != nil {
		return err
	}
	c.lock.write()
	defer c.lock.unwrite()
	if n < 0 || n > c.len {
		return argument(ErrOption, "n", "is %d, want 0 to the %d keys of the cache", n, c.len)
	}
	if n > 0 && c.oldest(n) < c.start() {
		return argument(ErrOption, "n", "is %d, but a query there sees the key %d, and those before %d are gone", n, c.oldest(n), c.start())
	}
	c.truncate(n)
	return nil
}

func (c *Cache) truncate(n int) {
	keep := 0
	if n > 0 {
		keep = (n-1)/c.pool.config.PageKeys + 1 - c.first
	} else {
		c.first = 0
	}
	c.drop(keep, len(c.pages))
	c.len, c.packed = n, min(c.packed, roundUp(n, panel))
}

// drop gives back the pages [from, to) of c.pages.
func (c *Cache) drop(from, to int) {
	if from == to {
		return
	}
	c.pool.mu.Lock()
	c.pool.release(c.pages[from:to])
	c.pool.mu.Unlock()
	c.pages = slices.Delete(c.pages, from, to)
}

// Reset forgets all keys and gives back all pages to the pool. The next key has position 0.
func (c *Cache) Reset() {
	mustNotNil(c, "Cache", "Reset")
	c.lock.write()
	defer c.lock.unwrite()
	c.truncate(0)
}

// Free is Reset for good: keys can no longer be appended, and [Attend] refuses the cache. It may be called
// again. A cache that is not freed keeps its pages from the pool's other caches for ever.
func (c *Cache) Free() {
	mustNotNil(c, "Cache", "Free")
	c.lock.write()
	defer c.lock.unwrite()
	c.truncate(0)
	c.closed = true
}

// made reports that c was made for keys, and is not the zero Cache or one of the zero Pool.
func (c *Cache) made() bool { return c.pool != nil && c.pool.layout.bytes > 0 }

// start is the position of the first key that is there.
func (c *Cache) start() int { return c.first * c.pool.config.PageKeys }

// oldest is the first key that a query at position p sees.
func (c *Cache) oldest(p int) int {
	if w := c.pool.config.Window; w > 0 {
		return max(p-w+1, 0)
	}
	return 0
}

// at returns block b of a head.
func (c *Cache) at(head, b int) pageBlock {
	l := &c.pool.layout
	return l.at(c.pages[b/l.blocks-c.first], head, b%l.blocks)
}
