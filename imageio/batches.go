package imageio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/fidlab/fidlab/internal/cpu"
)

// DefaultBatch is the pictures of a batch when BatchOptions says nothing.
const DefaultBatch = 8

// BatchOptions say how Batches cuts a source. The zero value is the default.
type BatchOptions struct {
	Size    int  // items of a batch; 0 is DefaultBatch
	Limit   int  // items taken at most; 0 is all
	SkipBad bool // go on without pictures that can't be decoded, and report them
	// Progress is told after every batch how many items are done; calls never
	// overlap and done never falls.
	Progress func(done int)
}

// Batch is a run of a source's items, decoded: items First to First+Size-1,
// less the bad ones. Which items are in which batch depends on the source and
// on Size alone. Batch and pictures are the function's until it returns; then
// their memory serves the next batch.
type Batch struct {
	Seq    int // number of the batch
	First  int // number of its first item in the source, Seq*Size
	Images []*Image
	Index  []int    // number in the source of each picture
	Names  []string // of each picture
	Labels []int    // of each picture, -1 without one
	items  []Item
}

// Batches decodes a source and calls fn for every batch on a worker of
// internal/cpu, also one that lost all its pictures to SkipBad, so that Seq has
// no gaps. A batch is decoded and handed to fn on one worker; batches run on all
// workers at once and end in any order. At most one batch a worker and
// two more are in flight, whatever the length of the source.
//
// Without SkipBad, fn is not called any more after the first bad picture, but
// the rest is still decoded, so that the *BadFilesError lists all bad ones. An
// error of fn, or the end of ctx, stops everything within about a picture; the
// error of the earliest batch that had one is returned.
//
// Batches must not be called on a worker.
func Batches(ctx context.Context, src Source, o BatchOptions, fn func(w *cpu.Worker, b *Batch) error) (Summary, error) {
	if o.Size < 0 || o.Limit < 0 {
		panic(fmt.Sprintf("imageio: Batches: size %d, limit %d; want 0 or more", o.Size, o.Limit))
	}
	if o.Size == 0 {
		o.Size = DefaultBatch
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &batchRun{ctx: ctx, cancel: cancel, opt: o, fn: fn, failedSeq: -1}
	queue := make(chan *Batch, 1)
	var feeders sync.WaitGroup
	for range cpu.Workers() {
		feeders.Go(func() { r.feed(queue) })
	}
	err := r.dispatch(src, queue)
	close(queue)
	feeders.Wait()
	return r.finish(src, err)
}

// batchRun is one call of Batches.
type batchRun struct {
	ctx    context.Context
	cancel context.CancelFunc
	opt    BatchOptions
	fn     func(w *cpu.Worker, b *Batch) error

	mu        sync.Mutex
	sum       Summary
	bad       []badItem
	done      int
	failed    error
	failedSeq int // of the batch that failed had, -1 when none
	panicked  any
}

type badItem struct {
	index int
	Bad
}

var errLimit = fmt.Errorf("imageio: limit reached") // ends Each early; never returned

func (r *batchRun) dispatch(src Source, queue chan<- *Batch) error {
	var b *Batch
	n := 0
	send := func() error {
		select {
		case queue <- b:
			b = nil
			return nil
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
	err := src.Each(r.ctx, func(it Item) error {
		if b == nil {
			b = &Batch{Seq: n / r.opt.Size, First: n}
		}
		b.items = append(b.items, it)
		if n++; len(b.items) == r.opt.Size {
			if err := send(); err != nil {
				return err
			}
		}
		if n == r.opt.Limit {
			return errLimit
		}
		return nil
	})
	if errors.Is(err, errLimit) {
		err = nil
	}
	if err == nil && b != nil {
		err = send()
	}
	return err
}

// feed hands batches to workers one by one, so that other work gets its turn.
func (r *batchRun) feed(queue <-chan *Batch) {
	defer func() {
		if v := recover(); v != nil {
			r.mu.Lock()
			r.panicked = v
			r.mu.Unlock()
			r.cancel()
			for range queue { // let the dispatcher end
			}
		}
	}()
	for b := range queue {
		if r.ctx.Err() == nil {
			cpu.Do(func(w *cpu.Worker) { r.run(w, b) })
		}
	}
}

func (r *batchRun) run(w *cpu.Worker, b *Batch) {
	var sum Summary
	var bad []badItem
	for i, it := range b.items {
		if r.ctx.Err() != nil {
			return
		}
		m, err := it.On(w)
		if err != nil {
			bad = append(bad, badItem{b.First + i, Bad{Path: it.Name, Reason: err.Error()}})
			continue
		}
		sum.add(m)
		b.Images = append(b.Images, m)
		b.Index = append(b.Index, b.First+i)
		b.Names = append(b.Names, it.Name)
		b.Labels = append(b.Labels, it.Label)
	}
	r.mu.Lock()
	r.sum.merge(&sum)
	r.bad = append(r.bad, bad...)
	useless := len(r.bad) > 0 && !r.opt.SkipBad
	r.mu.Unlock()
	n := len(b.items)
	if !useless {
		if err := r.fn(w, b); err != nil {
			r.mu.Lock()
			if r.failedSeq < 0 || b.Seq < r.failedSeq {
				r.failed, r.failedSeq = err, b.Seq
			}
			r.mu.Unlock()
			r.cancel()
			return
		}
	}
	for _, m := range b.Images {
		m.recycle()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += n
	if r.opt.Progress != nil {
		r.opt.Progress(r.done)
	}
}

func (r *batchRun) finish(src Source, err error) (Summary, error) {
	if r.panicked != nil {
		panic(r.panicked)
	}
	slices.SortFunc(r.bad, func(a, b badItem) int { return a.index - b.index })
	if f, ok := src.(Finder); ok {
		r.sum.Found = f.Found()
	}
	r.sum.Bad = slices.Clone(r.sum.Found.Bad)
	for _, b := range r.bad {
		r.sum.Bad = append(r.sum.Bad, b.Bad)
	}
	switch {
	case r.failed != nil:
		return r.sum, r.failed
	case err != nil:
		return r.sum, err
	case len(r.bad) > 0 && !r.opt.SkipBad:
		return r.sum, &BadFilesError{Input: src.Describe(), Bad: r.sum.Bad, Total: r.sum.Images + len(r.bad)}
	case r.ctx.Err() != nil:
		return r.sum, r.ctx.Err()
	case r.sum.Images == 0:
		found := r.sum.Found
		found.Bad = r.sum.Bad
		return r.sum, emptyError(src.Describe(), &found)
	}
	return r.sum, nil
}
