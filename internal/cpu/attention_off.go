package cpu

func (f *attnForward) nativeBlock(w *Worker, b, h int, s *attnSeq, i0, i1 int) bool { return false }

func (g *attnBackward) nativePart(w *Worker, p *attnPart) bool { return false }
