package cli

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/internal/cpu"
)

// featureCache is the rows of one extractor, in the folder features/KEY of the cache. KEY is the hash of all that decides the bits of
// a row but the picture: the extractor with its weights, this program's own bytes, the processor. So nothing in it can go stale. A
// process adds records to a file of its own, a few at a time, and reads those of all: one that is killed leaves at most its last
// record cut, which is not read.
//
// A record is the picture's hash, the number of values, the values as little-endian float32, and the CRC-32 of all these.
type featureCache struct {
	say   func(format string, args ...any)
	dir   string
	mu    sync.Mutex
	files []*os.File
	at    map[[sha256.Size]byte]cachedRow
	out   *os.File
	block bytes.Buffer
	held  int // records in block
	off   bool
}

type cachedRow struct {
	file   int
	offset int64
	values int
}

const (
	recordHead = sha256.Size + 4
	blockRows  = 16      // records that a kill may cost
	cacheBytes = 8 << 30 // of all feature vectors; beyond, the files that are longest unused go
	rowFiles   = ".rows"
)

// featureCache opens the cache of an extractor; nil where none is to be kept. A cache that cannot be used is told once, and done without.
func (a *app) featureCache(x *extraction, e fid.Extractor) *featureCache {
	if x.cache == "off" || x.cache == "auto" && !x.heavy() {
		return nil
	}
	c := &featureCache{say: a.say, at: map[[sha256.Size]byte]cachedRow{}}
	if err := c.open(a.env.Getenv, e); err != nil {
		a.say("features are not kept: %v; --cache off says no more of it", err)
		c.close()
		return nil
	}
	return c
}

// of is the cache for fid: no interface around nil.
func (c *featureCache) of() fid.FeatureCache {
	if c == nil {
		return nil
	}
	return c
}

// sayCached tells what the cache has saved.
func (a *app) sayCached(got *fid.Collected) {
	if got.Cached > 0 {
		a.say("features of %d of %d images were in the cache", got.Cached, got.Summary.Images)
	}
}

func (c *featureCache) open(getenv func(string) string, e fid.Extractor) error {
	program, err := programHash()
	if err != nil {
		return err
	}
	key := map[string]any{
		"extractor": e.Info(), "program": program, "os": runtime.GOOS, "arch": runtime.GOARCH, "processor": cpu.Features(), "libraries": cpu.Report(),
	}
	if on := fid.DeviceOf(e); on != "cpu" { // a GPU's last bits are its own
		key["device"], err = gpuName(on)
		if err != nil {
			return err
		}
	}
	if p, ok := e.(fid.PartExtractor); ok {
		key["parts"] = p.Parts()
	}
	text, err := json.Marshal(key)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	all, err := cacheFile(getenv, "features")
	if err != nil {
		return err
	}
	c.dir = filepath.Join(all, hex.EncodeToString(sum[:12]))
	if err := os.MkdirAll(c.dir, 0o777); err != nil {
		return err
	}
	if err := trim(all, cacheBytes); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(c.dir, "*"+rowFiles))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.index(name); err != nil {
			return err
		}
	}
	return nil
}

// index notes where the records of a file are.
func (c *featureCache) index(name string) error {
	f, err := os.Open(name)
	if os.IsNotExist(err) {
		return nil // another process has cleaned it away
	}
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	c.files = append(c.files, f)
	var head [recordHead]byte
	for at := int64(0); ; {
		if _, err := f.ReadAt(head[:], at); err != nil {
			return nil // the end, or a cut record
		}
		values := int(binary.LittleEndian.Uint32(head[sha256.Size:]))
		next := at + recordHead + 4*int64(values) + 4
		if values < 1 || next > st.Size() {
			return nil
		}
		c.at[[sha256.Size]byte(head[:sha256.Size])] = cachedRow{len(c.files) - 1, at, values}
		at = next
	}
}

// Lookup reads a row. One that is damaged is as if it were not there.
func (c *featureCache) Lookup(picture [sha256.Size]byte, row []float32) bool {
	c.mu.Lock()
	r, ok := c.at[picture]
	c.mu.Unlock()
	if !ok || r.values != len(row) {
		return false
	}
	b := make([]byte, recordHead+4*r.values+4)
	if _, err := c.files[r.file].ReadAt(b, r.offset); err != nil {
		return false
	}
	body := b[:len(b)-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(b[len(body):]) || !bytes.Equal(body[:sha256.Size], picture[:]) {
		return false
	}
	for i := range row {
		row[i] = math.Float32frombits(binary.LittleEndian.Uint32(body[recordHead+4*i:]))
	}
	return true
}

// Store adds a row. When the disk is full, that is said once, and no more is kept.
func (c *featureCache) Store(picture [sha256.Size]byte, row []float32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		return
	}
	at := c.block.Len()
	c.block.Write(picture[:])
	b := binary.LittleEndian.AppendUint32(c.block.AvailableBuffer(), uint32(len(row)))
	for _, v := range row {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	c.block.Write(b)
	c.block.Write(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(c.block.Bytes()[at:])))
	if c.held++; c.held >= blockRows {
		c.flush()
	}
}

// flush writes the records that are held, in one call.
func (c *featureCache) flush() {
	if c.held == 0 || c.off {
		return
	}
	var err error
	if c.out == nil {
		c.out, err = os.CreateTemp(c.dir, "*"+rowFiles)
	}
	if err == nil {
		_, err = c.out.Write(c.block.Bytes())
	}
	if err != nil {
		c.off = true
		c.say("features are not kept from here on: %v", err)
	}
	c.block.Reset()
	c.held = 0
}

// close writes what is held and gives the files back.
func (c *featureCache) close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
	if c.out != nil {
		if err := c.out.Close(); err != nil {
			c.say("features are not all kept: %v", err)
		}
	}
	for _, f := range c.files {
		f.Close() // it was only read from
	}
	c.files, c.at, c.off = nil, nil, true
}

// trim removes the oldest files of feature vectors while there are more bytes than most.
func trim(dir string, most int64) error {
	type entry struct {
		path string
		info fs.FileInfo
	}
	var all []entry
	total := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err): // another process has cleaned it away
			return nil
		case err != nil || d.IsDir() || filepath.Ext(path) != rowFiles:
			return err
		}
		info, err := d.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		all = append(all, entry{path, info})
		total += info.Size()
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(a.info.ModTime().Compare(b.info.ModTime()), cmp.Compare(a.path, b.path))
	})
	for _, e := range all {
		if total <= most {
			break
		}
		if err := os.Remove(e.path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("cache: %w", err)
		}
		total -= e.info.Size()
	}
	return nil
}
