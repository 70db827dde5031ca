package gpu

// lanes is how many work side by side: one computes while the data of the other arrives.
const lanes = 2

// Lanes are values that work on a device, each with a Fork of it, so that several goroutines keep it busy: one that finds none free waits.
type Lanes[T any] struct {
	dev  *Device
	make func(dev *Device) (T, error)
	drop func(v T)
	free chan *lane[T] // nil for one that is not made yet
}

type lane[T any] struct {
	dev *Device
	v   T
}

// NewLanes makes values by prepare when they are first wanted; drop gives back what prepare has made.
func NewLanes[T any](dev *Device, prepare func(dev *Device) (T, error), drop func(v T)) *Lanes[T] {
	l := &Lanes[T]{dev: dev, make: prepare, drop: drop, free: make(chan *lane[T], lanes)}
	for range lanes {
		l.free <- nil
	}
	return l
}

// Use calls f with a value that nobody else has meanwhile, and its device. After an error, which its stream may keep, the value is dropped.
func (l *Lanes[T]) Use(f func(dev *Device, v T) error) error {
	one := <-l.free
	defer func() { l.free <- one }()
	if one == nil {
		dev, err := l.dev.Fork()
		if err != nil {
			return err
		}
		v, err := l.make(dev)
		if err != nil {
			_ = dev.Close() // err says why
			return err
		}
		one = &lane[T]{dev, v}
	}
	err := f(one.dev, one.v)
	if err != nil {
		l.end(one)
		one = nil
	}
	return err
}

func (l *Lanes[T]) end(one *lane[T]) {
	l.drop(one.v)
	_ = one.dev.Close() // an error of the stream was told by what ran on it
}

// Close waits for those in use and drops all. Use is not called after.
func (l *Lanes[T]) Close() {
	for range lanes {
		if one := <-l.free; one != nil {
			l.end(one)
		}
	}
}
