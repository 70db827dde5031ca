//go:build !native || !cgo

package cpu

func (f *attnForward) nativeBlock(w *Worker, b, h int, s *attnSeq, i0, i1 int) bool { return false }

func (g *attnBackward) nativePart(w *Worker, p *attnPart) bool { return false }

func (g *attnBackward) nativeMapDeltas(w *Worker, delta []float32, b, h int, s *attnSeq, i0, i1 int) bool {
	return false
}

func (m *attnMaps) nativeMap(w *Worker, s *attnSeq, b, h, slot int, more bool, share float32, i0, i1 int) bool {
	return false
}
