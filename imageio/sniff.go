package imageio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path"
	"strings"
)

// sniffLen is how many leading bytes tell every format.
const sniffLen = 64

// extensions maps a name's ending to the format it promises.
var extensions = map[string]string{
	".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".jfif": "jpeg", ".webp": "webp",
	".bmp": "bmp", ".dib": "bmp", ".tif": "tiff", ".tiff": "tiff", ".gif": "gif",
	".ppm": "pnm", ".pgm": "pnm", ".pbm": "pnm", ".pnm": "pnm",
	".avif": "avif", ".heic": "heic", ".heif": "heic", ".jxl": "jxl", ".jp2": "jp2",
}

// unsupported are formats that are told apart in order to be refused by name.
var unsupported = map[string]string{"avif": "AVIF", "heic": "HEIC", "jxl": "JPEG XL", "jp2": "JPEG 2000"}

// promised is the format that a file's name promises, "" when none.
func promised(name string) string { return extensions[strings.ToLower(path.Ext(name))] }

// sniff tells the format by the first bytes, "" when they begin no picture.
// Signatures of two letters are only believed with a plausible header.
func sniff(b []byte) string {
	has := func(s string) bool { return bytes.HasPrefix(b, []byte(s)) }
	switch {
	case has("\x89PNG\r\n\x1a\n"):
		return "png"
	case has("\xff\xd8\xff"):
		return "jpeg"
	case has("RIFF") && len(b) >= 12 && string(b[8:12]) == "WEBP":
		return "webp"
	case has("GIF87a"), has("GIF89a"):
		return "gif"
	case has("II*\x00"), has("MM\x00*"):
		return "tiff"
	case has("BM") && len(b) >= 26:
		switch binary.LittleEndian.Uint32(b[14:]) { // size of the second header: its version
		case 12, 16, 40, 52, 56, 64, 108, 124:
			return "bmp"
		}
	case len(b) >= 4 && b[0] == 'P' && '1' <= b[1] && b[1] <= '6' && (isSpace(b[2]) || b[2] == '#'):
		rest := bytes.TrimLeft(b[2:], " \t\r\n\v\f")
		if len(rest) > 0 && (rest[0] == '#' || '0' <= rest[0] && rest[0] <= '9') {
			return "pnm"
		}
	case has("\xff\x0a"), has("\x00\x00\x00\x0cJXL \r\n\x87\n"):
		return "jxl"
	case has("\x00\x00\x00\x0cjP  \r\n\x87\n"), has("\xff\x4f\xff\x51"):
		return "jp2"
	case len(b) >= 12 && string(b[4:8]) == "ftyp":
		switch string(b[8:12]) {
		case "avif", "avis":
			return "avif"
		case "heic", "heix", "hevc", "mif1", "msf1":
			return "heic"
		}
	}
	return ""
}

func isSpace(c byte) bool {
	return c == ' ' || '\t' <= c && c <= '\r'
}

// classify decides on a file by name and first bytes: a picture of some format
// (misnamed when the name promises another), nothing to do with pictures
// (format ""), or bad, with the reason.
func classify(name string, head []byte, size int64) (format string, misnamed bool, bad error) {
	want, have := promised(name), sniff(head)
	switch {
	case unsupported[have] != "":
		return "", false, fmt.Errorf("%s is not supported; convert it to PNG", unsupported[have])
	case have != "":
		return have, want != "" && want != have, nil
	case want == "":
		return "", false, nil
	case size == 0:
		return "", false, fmt.Errorf("empty file (0 bytes)")
	}
	return "", false, fmt.Errorf("named %s, but not an image: starts with % x", path.Ext(name), head[:min(len(head), 8)])
}

// kindOf is the word for a file that is no picture, in counts of what was skipped.
func kindOf(name string) string {
	if e := strings.ToLower(path.Ext(name)); e != "" && len(e) <= 8 {
		return e
	}
	return "without extension"
}
