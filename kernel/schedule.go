package kernel

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// schedule shares out the tiles of a plan.
//
// A group is one key/value head of one sequence. Tiles are numbered group by group, those with the most
// keys first, and workers take them in that order from a counter. The tiles of a group share its packed
// keys, which lie in a slot; there are a few slots, used in turn, and a tile waits until the tiles of
// the slot's group before are done: always for earlier tiles, so somebody is at work on them.
type schedule struct {
	groups, tiles int // tiles of a group
	rows          int // most rows of a tile
	next          atomic.Int64
	done          []atomic.Int32 // tiles finished, by group
	epoch, last   uint64         // numbers of this run's groups among those of all runs: [epoch, last)
	failed        atomic.Bool
	once          sync.Once
	cause         any
}

// slot holds the keys of a group, packed block by block when a tile first needs them: the memory they
// come from is then read while others compute, and blocks that nobody sees are not read at all.
type slot struct {
	packed
	schedule *schedule
	// states tells of each block, by the group counted over all runs: 2·group + 2 is being packed,
	// 2·group + 3 is packed, less is neither.
	states []atomic.Uint64
}

// block makes a slot a source: the block is packed here unless somebody else does or has done it.
func (s *slot) block(w *worker, t *tile, b int) (*packed, int) {
	busy := 2*t.group + 2 // never 0
	for {
		switch state := s.states[b].Load(); {
		case state > busy:
			return &s.packed, b
		case state == busy:
			if s.schedule.failed.Load() {
				panic(errStopped)
			}
			runtime.Gosched()
		case s.states[b].CompareAndSwap(state, busy):
			w.pack(t, &s.packed, b, b)
			s.states[b].Store(busy + 1)
		}
	}
}

// errStopped ends a worker that waits for another which has panicked.
var errStopped = errors.New("quern: another worker has failed")

// prepare sizes the schedule, workers and slots of a plan.
func (p *Plan) prepare() {
	s, shape := &p.schedule, p.shape
	rows, keys := 0, 0
	for _, q := range p.sequences {
		rows, keys = max(rows, q.queries*p.group), max(keys, q.keys)
	}
	s.groups = len(p.sequences) * shape.KVHeads
	s.tiles = (rows + tileRows - 1) / tileRows
	if s.tiles == 0 || shape.ValueDim == 0 && p.opts.LSE == nil {
		s.groups, s.tiles = 0, 1
	}
	s.rows = roundUp((rows+s.tiles-1)/s.tiles, rowTile)
	if cap(s.done) < s.groups {
		s.done = make([]atomic.Int32, s.groups)
	}
	s.done = s.done[:s.groups]

	workers := p.workerCount(s.groups * s.tiles)
	for len(p.workers) < workers {
		p.workers = append(p.workers, new(worker))
	}
	p.workers = p.workers[:workers]
	for _, w := range p.workers {
		w.size(p, shape, s.rows, s.tiles == 1)
	}
	slots := 0
	switch {
	case s.tiles == 1: // a worker packs for itself
	case workers == 1:
		slots = 1
	default:
		slots = min(s.groups, 2+workers/s.tiles)
	}
	for len(p.slots) < slots {
		p.slots = append(p.slots, &slot{schedule: s})
	}
	p.slots = p.slots[:slots]
	for _, slot := range p.slots {
		blocks := (keys + blockKeys - 1) / blockKeys
		slot.size(blocks, shape.Dim, shape.ValueDim)
		if cap(slot.states) < blocks {
			slot.states = make([]atomic.Uint64, blocks)
		}
		slot.states = slot.states[:blocks]
	}
}

// run does all tasks and returns when they are done. A panic in a worker, which only a user's
// function can cause, reaches the caller after all workers have stopped.
func (s *schedule) run(p *Plan) {
	s.next.Store(0)
	s.epoch, s.last = s.last, s.last+uint64(s.groups)
	for g := range s.done {
		s.done[g].Store(0)
	}
	if len(p.workers) == 1 {
		s.work(p, p.workers[0])
		return
	}
	s.failed.Store(false)
	s.cause, s.once = nil, sync.Once{}
	s.share(p)
	if s.failed.Load() {
		panic(s.cause)
	}
}

// share runs the workers on goroutines of their own, but for the caller's.
func (s *schedule) share(p *Plan) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, w := range p.workers[1:] {
		all.Add(1)
		go func() {
			defer all.Done()
			s.guarded(p, w)
		}()
	}
	s.guarded(p, p.workers[0])
}

func (s *schedule) guarded(p *Plan, w *worker) {
	defer func() {
		if cause := recover(); cause != nil && cause != errStopped {
			s.once.Do(func() { s.cause = cause })
			s.failed.Store(true)
		}
	}()
	s.work(p, w)
}

// work takes tiles until there are none.
func (s *schedule) work(p *Plan, w *worker) {
	for {
		n := int(s.next.Add(1)) - 1
		if n >= s.groups*s.tiles {
			return
		}
		g, number := n/s.tiles, n%s.tiles
		seq := &p.sequences[g/p.shape.KVHeads]
		r0, rows := (s.tiles-1-number)*s.rows, seq.queries*p.group // the last rows see the most keys
		if r0 < rows {
			w.task = tile{p, &p.tensors, seq, g % p.shape.KVHeads, r0, min(r0+s.rows, rows), s.epoch + uint64(g), packing{}}
			if len(p.slots) > 0 {
				if before := g - len(p.slots); before >= 0 && !s.await(&s.done[before], s.tiles) {
					return
				}
				w.task.keys = p.slots[g%len(p.slots)]
			}
			w.run(&w.task)
		}
		s.done[g].Add(1)
	}
}

// await waits until n tasks are counted, or reports false if a worker has failed.
func (s *schedule) await(count *atomic.Int32, n int) bool {
	for int(count.Load()) < n {
		if s.failed.Load() {
			return false
		}
		runtime.Gosched()
	}
	return true
}
