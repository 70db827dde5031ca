package train

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/fidlab/fidlab/imageio"
)

// Event files are what TensorBoard reads: records of TFRecord, each an Event of TensorFlow's event.proto. A record is its length
// (8 bytes, little-endian), the masked checksum of those (4), the Event, and the masked checksum of that (4).
//
// Every call of Run that goes on has a file of its own, named after the step from which it went on, so that they sort as
// they were written. What earlier files have of later steps is cut off: no reader sees a step twice.

const (
	eventsBegin = "events.out.tfevents."
	eventsEnd   = ".fidlab"

	recordHead = 12
	recordRest = 4
)

// eventsPath is the file of a call that goes on from a step.
func eventsPath(dir string, step int) string {
	return filepath.Join(dir, fmt.Sprintf("%s%010d%s", eventsBegin, step, eventsEnd))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is the checksum of TFRecord: CRC32C, turned and shifted, so that a checksum of data with checksums in it is none of them.
func masked(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// appendRecord appends data as a record.
func appendRecord(to, data []byte) []byte {
	at := len(to)
	to = binary.LittleEndian.AppendUint64(to, uint64(len(data)))
	to = binary.LittleEndian.AppendUint32(to, masked(to[at:]))
	to = append(to, data...)
	return binary.LittleEndian.AppendUint32(to, masked(data))
}

var (
	errTorn   = errors.New("ends within a record")
	errRecord = errors.New("no record of an event file")
)

// record is the data of the record that b begins with, and what follows it. The error is io.EOF at b's end, errTorn where b ends
// within the record, as after a crash, and else errRecord.
func record(b []byte) (data, rest []byte, err error) {
	switch {
	case len(b) == 0:
		return nil, nil, io.EOF
	case len(b) < recordHead:
		return nil, nil, errTorn
	case masked(b[:8]) != binary.LittleEndian.Uint32(b[8:]):
		return nil, nil, errRecord
	}
	n := binary.LittleEndian.Uint64(b)
	b = b[recordHead:]
	if n > uint64(len(b)) || uint64(len(b))-n < recordRest {
		return nil, nil, errTorn
	}
	if masked(b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
		return nil, nil, errRecord
	}
	return b[:n], b[n+recordRest:], nil
}

// The wire types of protocol buffers.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

func appendTag(to []byte, field, wire int) []byte {
	return binary.AppendUvarint(to, uint64(field<<3|wire))
}

func appendInt(to []byte, field int, v int64) []byte {
	return binary.AppendUvarint(appendTag(to, field, wireVarint), uint64(v))
}

func appendBytes(to []byte, field int, v []byte) []byte {
	return append(binary.AppendUvarint(appendTag(to, field, wireBytes), uint64(len(v))), v...)
}

// event is an Event: the file's version, the beginning of a call that goes on, or values of a step.
func event(wall float64, step int, field int, content []byte) []byte {
	e := binary.LittleEndian.AppendUint64(appendTag(nil, 1, wireFixed64), math.Float64bits(wall))
	if step != 0 { // what is 0 is not written
		e = appendInt(e, 2, int64(step))
	}
	return appendBytes(e, field, content)
}

// Fields of Event.
const (
	eventStep    = 2
	eventVersion = 3
	eventSummary = 5
	eventSession = 7
)

// scalar appends a value to a Summary.
func scalar(summary []byte, tag string, v float64) []byte {
	x := binary.LittleEndian.AppendUint32(appendTag(appendBytes(nil, 1, []byte(tag)), 2, wireFixed32), math.Float32bits(float32(v)))
	return appendBytes(summary, 1, x)
}

// picture appends an RGB picture, as a PNG, to a Summary.
func picture(summary []byte, tag string, height, width int, png []byte) []byte {
	img := appendBytes(appendInt(appendInt(appendInt(nil, 1, int64(height)), 2, int64(width)), 3, 3), 4, png)
	return appendBytes(summary, 1, appendBytes(appendBytes(nil, 1, []byte(tag)), 4, img))
}

// stepOfEvent is the step of an Event, 0 where it says none.
func stepOfEvent(b []byte) (step int64, err error) {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, errRecord
		}
		b = b[n:]
		skip := uint64(0)
		switch tag & 7 {
		case wireVarint:
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return 0, errRecord
			}
			if tag>>3 == eventStep {
				step = int64(v)
			}
			skip = uint64(n)
		case wireFixed64:
			skip = 8
		case wireFixed32:
			skip = 4
		case wireBytes:
			v, n := binary.Uvarint(b)
			if n <= 0 || v > uint64(len(b)-n) {
				return 0, errRecord
			}
			skip = uint64(n) + v
		default:
			return 0, errRecord
		}
		if skip > uint64(len(b)) {
			return 0, errRecord
		}
		b = b[skip:]
	}
	return step, nil
}

// keptEvents is how many bytes of a file of events, b, are whole records of at most that step, up to the first that is not.
func keptEvents(b []byte, step int) (int, error) {
	for rest := b; ; {
		data, next, err := record(rest)
		if err == io.EOF || err == errTorn {
			return len(b) - len(rest), nil
		}
		if err != nil {
			return 0, err
		}
		at, err := stepOfEvent(data)
		if err != nil {
			return 0, err
		}
		if at > int64(step) {
			return len(b) - len(rest), nil
		}
		rest = next
	}
}

// openEvents opens the file of events for a call that goes on from step, 0 for one that begins. What the files in dir have of steps
// after last, which is step, or the one before where step's preview is drawn again, is cut off.
func openEvents(dir string, step, last int, wall float64) (*logFile, error) {
	old, err := eventFiles(dir)
	if err != nil {
		return nil, err
	}
	for path, from := range old {
		if step == 0 || from > step {
			err = os.Remove(path)
		} else {
			err = cutEvents(path, last)
		}
		if err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(eventsPath(dir, step), os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	l := &logFile{path: f.Name(), f: f, size: info.Size()}
	if l.size == 0 {
		l.pending = appendRecord(nil, event(wall, 0, eventVersion, []byte("brain.Event:2")))
	}
	if step > 0 { // a board that shows the run forgets what it has from here on
		l.pending = appendRecord(l.pending, event(wall, last+1, eventSession, appendInt(nil, 1, 1)))
	}
	return l, nil
}

// cutEvents cuts a file after its last whole record of at most that step.
func cutEvents(path string, step int) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	keep, err := keptEvents(b, step)
	if err != nil {
		return fmt.Errorf("%s: %w; it is not this run's log: move it away", path, err)
	}
	if keep == len(b) {
		return nil
	}
	return os.Truncate(path, int64(keep))
}

// eventFiles are a folder's files of events that Run wrote, with the steps from which they go on.
func eventFiles(dir string) (map[string]int, error) {
	files, err := filepath.Glob(filepath.Join(dir, eventsBegin+"*"+eventsEnd))
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, path := range files {
		name := filepath.Base(path)
		if from, err := strconv.Atoi(name[len(eventsBegin) : len(name)-len(eventsEnd)]); err == nil && eventsPath(dir, from) == path {
			out[path] = from
		}
	}
	return out, nil
}

// appendScalars appends the event of a line of the log: a value under each column's name where the cell is not empty.
func appendScalars(to []byte, wall float64, step int, columns, cells []string) []byte {
	var summary []byte
	for i, c := range cells {
		if i == 0 || c == "" { // the step itself
			continue
		}
		v, _ := strconv.ParseFloat(c, 64) // log.add made it of a number
		summary = scalar(summary, columns[i], v)
	}
	return appendRecord(to, event(wall, step, eventSummary, summary))
}

// appendPicture appends the event of a preview.
func appendPicture(to []byte, wall float64, step int, img *imageio.Image) ([]byte, error) {
	var png bytes.Buffer
	if err := imageio.EncodePNG(&png, img); err != nil {
		return to, err
	}
	return appendRecord(to, event(wall, step, eventSummary, picture(nil, "samples", img.Height, img.Width, png.Bytes()))), nil
}
