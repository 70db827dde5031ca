package fid

// Reference is one side of many distances: its statistics are checked and its
// covariance is factored once, which is nearly all of the work against a set of
// few vectors of many features. It is safe for concurrent use.
type Reference struct {
	stats *Stats
	f     *factor
}

// NewReference prepares s, which may not change afterwards. It refuses what
// Frechet refuses of a reference.
func NewReference(s *Stats) (*Reference, error) {
	if s.Dim() == 0 {
		return nil, badInput("the reference has no features")
	}
	if !s.lowRank() {
		if err := s.check(sides[0]); err != nil {
			return nil, err
		}
	}
	s.Covariance() // which Frechet may ask for, and which is made once
	f, err := factorOf(nil, s, sides[0])
	if err != nil {
		return nil, err
	}
	return &Reference{s, f}, nil
}

// Stats are those of the reference.
func (r *Reference) Stats() *Stats { return r.stats }

// Frechet is Frechet(r.Stats(), b), to the last bit.
func (r *Reference) Frechet(b *Stats) (Distance, error) { return frechet(nil, r.stats, b, r.f) }
