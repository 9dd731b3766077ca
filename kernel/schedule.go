package kernel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// schedule shares out the tasks of a plan.
//
// A group is one key/value head of one sequence. Where a group has several query tiles, its keys are
// packed once, in pieces, into a slot that its tiles share; there are a few slots, used in turn.
// Tasks are numbered group by group, first the pieces, then the tiles, those with the most keys first,
// and workers take them in that order from a counter. A tile waits until the pieces of its group are
// done, a piece until the tiles of the slot's group before are: always for earlier tasks, so
// somebody is at work on them. Where a group is a single tile, that packs for itself.
type schedule struct {
	groups        int
	pieces, tiles int // tasks of a group
	rows          int // most rows of a tile
	next          atomic.Int64
	packed, done  []atomic.Int32 // tasks finished, by group
	failed        atomic.Bool
	once          sync.Once
	cause         any
}

// pieceBlocks is the number of blocks that one task packs.
const pieceBlocks = 4

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
	s.pieces = 0
	blocks := (keys + blockKeys - 1) / blockKeys
	if s.tiles > 1 {
		s.pieces = (blocks + pieceBlocks - 1) / pieceBlocks
	}
	if cap(s.packed) < s.groups {
		s.packed, s.done = make([]atomic.Int32, s.groups), make([]atomic.Int32, s.groups)
	}
	s.packed, s.done = s.packed[:s.groups], s.done[:s.groups]

	workers := p.workerCount(s.groups * s.tiles)
	for len(p.workers) < workers {
		p.workers = append(p.workers, new(worker))
	}
	p.workers = p.workers[:workers]
	for _, w := range p.workers {
		w.size(p, shape, s.rows, s.pieces == 0)
	}
	slots := 0
	if s.pieces > 0 {
		slots = 1
		if workers > 1 {
			slots = min(s.groups, 2+workers/(s.pieces+s.tiles))
		}
	}
	for len(p.slots) < slots {
		p.slots = append(p.slots, new(packed))
	}
	p.slots = p.slots[:slots]
	for _, slot := range p.slots {
		slot.size(blocks, shape.Dim, shape.ValueDim)
	}
}

// run does all tasks and returns when they are done. A panic in a worker, which only a user's
// function can cause, reaches the caller after all workers have stopped.
func (s *schedule) run(p *Plan) {
	s.next.Store(0)
	for g := range s.groups {
		s.packed[g].Store(0)
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
		if cause := recover(); cause != nil {
			s.once.Do(func() { s.cause = cause })
			s.failed.Store(true)
		}
	}()
	s.work(p, w)
}

// work takes tasks until there are none.
func (s *schedule) work(p *Plan, w *worker) {
	t := &p.tensors
	each := s.pieces + s.tiles
	for {
		n := int(s.next.Add(1)) - 1
		if n >= s.groups*each {
			return
		}
		g, task := n/each, n%each
		seq, kvHead := &p.sequences[g/p.shape.KVHeads], g%p.shape.KVHeads
		var slot *packed
		if s.pieces > 0 {
			slot = p.slots[g%len(p.slots)]
		}
		if task < s.pieces {
			if before := g - len(p.slots); before >= 0 && !s.await(&s.done[before], s.tiles) {
				return
			}
			blocks := (seq.keys + blockKeys - 1) / blockKeys
			for b := task * pieceBlocks; b < min((task+1)*pieceBlocks, blocks); b++ {
				slot.pack(w.level, t, seq, kvHead, b, b)
			}
			s.packed[g].Add(1)
			continue
		}
		if !s.await(&s.packed[g], s.pieces) {
			return
		}
		rows := seq.queries * p.group
		r0 := (each - 1 - task) * s.rows // the last rows see the most keys
		if r0 < rows {
			w.task = tile{p, t, seq, kvHead, r0, min(r0+s.rows, rows), packing{}}
			if slot != nil {
				w.task.keys = slot
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
