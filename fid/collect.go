package fid

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
)

// CollectOptions say how pictures become features; zeros stand for the defaults.
type CollectOptions struct {
	Batch    int  // pictures that are decoded together; the extractor's own number
	Limit    int  // pictures taken at most; all
	SkipBad  bool // go on without pictures that cannot be decoded
	Progress func(done int)

	// Keep keeps the features even when they are more than the dimension, which
	// confidence intervals and some metrics need.
	Keep         bool
	FeatureBytes int64 // what may be kept; DefaultFeatureBytes
	Members      bool  // list what each row of features is of
	// Look sees every batch of decoded pictures, on several goroutines at once; it keeps none of their memory.
	Look func(b *imageio.Batch)

	// Cache keeps the rows of pictures beyond this call; nil for none.
	Cache FeatureCache

	Version string // for the provenance
}

// DefaultFeatureBytes holds 12,288 vectors of 2048 features.
const DefaultFeatureBytes = 96 << 20

// Collected is what reading a set of pictures came to, besides the features.
type Collected struct {
	Summary imageio.Summary
	Seconds Seconds
	Skipped []Skipped // never nil
	Members []Member  // of each row, where CollectOptions ask for them
	Cached  int       // pictures whose features the cache had
}

// FeatureCache keeps what an extractor made of pictures, by their content: size and pixels. A picture's row has the same bits whatever
// others it is extracted with, so that sets read from a cache in part are the same to the last bit. Its methods may be called from any
// goroutine.
type FeatureCache interface {
	Lookup(picture [sha256.Size]byte, row []float32) bool // fills row where it has one of that length
	Store(picture [sha256.Size]byte, row []float32)
}

// Member is what a row of features is of.
type Member struct {
	Name  string // of the picture, as imageio has it
	Index int    // of the picture in its source
	Label int    // class, -1 without one
	Piece int    // of the pieces that the extractor cuts the picture into
}

// EachFeatures decodes src, extracts the features of every picture and calls
// sink with rows of them, each with the parts of a PartExtractor after it, in the order of the source, never from two goroutines
// at once. sink runs on worker w and does not keep rows. Memory does not grow
// with the number of pictures as long as no single one takes far longer than
// the others: features that are ready too early wait for it.
func EachFeatures(ctx context.Context, src imageio.Source, ex Extractor, opt CollectOptions, sink func(w *cpu.Worker, rows []float32) error) (Collected, error) {
	out := Collected{Skipped: []Skipped{}}
	if opt.Batch == 0 {
		opt.Batch = ex.Batch()
	}
	q := &ordered{sink: sink, waiting: map[int][]float32{}}
	d := rowOf(ex)
	start := time.Now()
	var mu sync.Mutex
	var busy time.Duration
	members := map[int][]Member{} // by batch
	var err error
	out.Summary, err = imageio.Batches(ctx, src, imageio.BatchOptions{
		Size: opt.Batch, Limit: opt.Limit, SkipBad: opt.SkipBad, Progress: opt.Progress,
	}, func(w *cpu.Worker, b *imageio.Batch) error {
		if opt.Look != nil {
			opt.Look(b)
		}
		begin := time.Now()
		imgs := piecesOf(ex, b.Images)
		rows := q.buffer(len(imgs) * d)
		cached, err := fillRows(w, ex, opt.Cache, b.Images, imgs, rows)
		if err != nil {
			return err
		}
		spent := time.Since(begin)
		mu.Lock()
		busy += spent
		out.Cached += cached
		if opt.Members {
			members[b.Seq] = membersOf(b, len(imgs))
		}
		mu.Unlock()
		return q.deliver(w, b.Seq, rows)
	})
	for _, b := range out.Summary.Bad {
		out.Skipped = append(out.Skipped, Skipped{b.Path, b.Reason})
	}
	for _, seq := range slices.Sorted(maps.Keys(members)) {
		out.Members = append(out.Members, members[seq]...)
	}
	wall := time.Since(start).Seconds()
	out.Seconds.Features = min(wall, busy.Seconds()/float64(cpu.Workers()))
	out.Seconds.Read = wall - out.Seconds.Features
	return out, err
}

// fillRows extracts the pieces of pictures, those that the cache has from there; it returns how many pictures these were.
func fillRows(w *cpu.Worker, ex Extractor, cache FeatureCache, pictures, pieces []*imageio.Image, rows []float32) (cached int, err error) {
	if cache == nil || len(pictures) == 0 {
		return 0, extractRows(w, ex, pieces, rows)
	}
	per, values := len(pieces)/len(pictures), len(rows)/len(pictures)
	var missing []int
	var todo []*imageio.Image
	keys := make([][sha256.Size]byte, len(pictures))
	for i, m := range pictures {
		keys[i] = m.Sum()
		if !cache.Lookup(keys[i], rows[i*values:(i+1)*values]) {
			missing = append(missing, i)
			todo = append(todo, pieces[i*per:(i+1)*per]...)
		}
	}
	made := make([]float32, len(missing)*values)
	if err := extractRows(w, ex, todo, made); err != nil {
		return 0, err
	}
	for k, i := range missing {
		row := rows[i*values : (i+1)*values]
		copy(row, made[k*values:])
		cache.Store(keys[i], row)
	}
	return len(pictures) - len(missing), nil
}

func extractRows(w *cpu.Worker, ex Extractor, imgs []*imageio.Image, rows []float32) error {
	d := rowOf(ex)
	for at := 0; at < len(imgs); at += ex.Batch() {
		end := min(at+ex.Batch(), len(imgs))
		if err := ex.Features(w, imgs[at:end], rows[at*d:end*d]); err != nil {
			return err
		}
	}
	return nil
}

// membersOf lists the rows of a batch whose pictures were cut into so many pieces together.
func membersOf(b *imageio.Batch, pieces int) []Member {
	var out []Member
	for i, name := range b.Names {
		for k := range pieces / len(b.Names) {
			out = append(out, Member{name, b.Index[i], b.Labels[i], k})
		}
	}
	return out
}

// piecesOf are the pictures, or the pieces that a Cutter cuts them into.
func piecesOf(ex Extractor, imgs []*imageio.Image) []*imageio.Image {
	c, ok := ex.(Cutter)
	if !ok {
		return imgs
	}
	var out []*imageio.Image
	for _, m := range imgs {
		out = append(out, c.Cut(m)...)
	}
	return out
}

// ordered passes on batches by their number, whatever order they come in.
type ordered struct {
	sink    func(w *cpu.Worker, rows []float32) error
	mu      sync.Mutex
	next    int
	waiting map[int][]float32
	free    [][]float32
}

func (q *ordered) buffer(n int) []float32 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if k := len(q.free); k > 0 && cap(q.free[k-1]) >= n {
		b := q.free[k-1][:n]
		q.free = q.free[:k-1]
		return b
	}
	return make([]float32, n)
}

func (q *ordered) deliver(w *cpu.Worker, seq int, rows []float32) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting[seq] = rows
	for {
		rows, ok := q.waiting[q.next]
		if !ok {
			return nil
		}
		delete(q.waiting, q.next)
		q.next++
		if len(rows) == 0 {
			continue
		}
		if err := q.sink(w, rows); err != nil {
			return err
		}
		q.free = append(q.free, rows)
	}
}

// StatsOf is the statistics of the features of all pictures of src. They do not
// depend on the batch size or the number of threads.
func StatsOf(ctx context.Context, src imageio.Source, ex Extractor, opt CollectOptions) (*Stats, Collected, error) {
	if opt.FeatureBytes == 0 {
		opt.FeatureBytes = DefaultFeatureBytes
	}
	info := ex.Info()
	if err := checkDim(info.Name, info.Dim); err != nil {
		return nil, Collected{Skipped: []Skipped{}}, err
	}
	g := newSplitter(ex, opt.Keep, opt.FeatureBytes)
	if n := src.Len(); opt.Limit == 0 || n <= opt.Limit {
		g.into[0].keep.expect(n, info.Dim)
	}
	out, err := EachFeatures(ctx, src, ex, opt, g.add)
	if err != nil {
		return nil, out, err
	}
	s := g.stats()
	s.Provenance = &Provenance{
		Version: opt.Version, Input: src.Describe(), Extractor: info, Device: DeviceOf(ex),
		Decoders: out.Summary.DecoderNames(), Skipped: len(out.Skipped), Notes: out.Summary.Notes(),
	}
	return s, out, nil
}

// gatherer makes statistics of a stream of rows. While there are no more than d
// of them the rows say it all, and no covariance is summed.
type gatherer struct {
	keep    *keeper
	few     *Moments // the means of the first d rows
	moments *Moments // nil until there are more
}

func newGatherer(d int, keep bool, bytes int64) *gatherer {
	return &gatherer{keep: newKeeper(d, keep, bytes), few: newMeans(d)}
}

// add takes rows, on worker w or, when it is nil, on all.
func (g *gatherer) add(w *cpu.Worker, rows []float32) error {
	d := g.few.d
	if g.moments == nil && g.few.N()+len(rows)/d > d {
		g.moments = NewMoments(d)
		if err := addRows(w, g.moments, g.keep.rows); err != nil {
			return err
		}
	}
	g.keep.add(rows)
	if g.moments == nil {
		return addRows(w, g.few, rows)
	}
	return addRows(w, g.moments, rows)
}

func (g *gatherer) stats() *Stats {
	m := g.moments
	if m == nil {
		m = g.few
	}
	s := m.Stats()
	s.Features, s.dropped = g.keep.rows, g.keep.dropped
	return s
}

// keeper keeps features while they are few enough.
type keeper struct {
	rows    []float32
	most    int // values
	dropped bool
}

func newKeeper(d int, keep bool, bytes int64) *keeper {
	most := d * d // what the low-rank route needs
	if keep {
		most = max(most, int(bytes/4))
	}
	return &keeper{most: most}
}

// expect makes room for n rows of d at once, where they will be kept.
func (k *keeper) expect(n, d int) {
	if n > 0 && n <= k.most/d {
		k.rows = make([]float32, 0, n*d)
	}
}

func (k *keeper) add(rows []float32) {
	if k.dropped {
		return
	}
	if len(k.rows)+len(rows) > k.most {
		k.rows, k.dropped = nil, true
		return
	}
	if len(k.rows)+len(rows) > cap(k.rows) {
		k.rows = slices.Grow(k.rows, min(k.most-len(k.rows), max(len(rows), cap(k.rows)/2)))
	}
	k.rows = append(k.rows, rows...)
}
