package scimtest

import "iter"

// ordered is a map that remembers the order of insertion. Removal leaves a hole
// that is closed later, so that every operation is O(1) in the mean.
type ordered[T any] struct {
	slots []slot[T]
	at    map[string]int
}

type slot[T any] struct {
	key   string
	value T
	used  bool
}

func newOrdered[T any]() *ordered[T] { return &ordered[T]{at: map[string]int{}} }

func (o *ordered[T]) len() int { return len(o.at) }

func (o *ordered[T]) get(key string) (T, bool) {
	i, ok := o.at[key]
	if !ok {
		var zero T
		return zero, false
	}
	return o.slots[i].value, true
}

func (o *ordered[T]) has(key string) bool {
	_, ok := o.at[key]
	return ok
}

func (o *ordered[T]) add(key string, value T) {
	if i, ok := o.at[key]; ok {
		o.slots[i].value = value
		return
	}
	o.at[key] = len(o.slots)
	o.slots = append(o.slots, slot[T]{key: key, value: value, used: true})
}

func (o *ordered[T]) remove(key string) {
	i, ok := o.at[key]
	if !ok {
		return
	}
	delete(o.at, key)
	o.slots[i] = slot[T]{}
	if len(o.slots) > 32 && len(o.slots) > 2*len(o.at) {
		o.compact()
	}
}

func (o *ordered[T]) compact() {
	slots := make([]slot[T], 0, len(o.at))
	for _, s := range o.slots {
		if s.used {
			o.at[s.key] = len(slots)
			slots = append(slots, s)
		}
	}
	o.slots = slots
}

// all goes through the entries in order.
func (o *ordered[T]) all() iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		for _, s := range o.slots {
			if s.used && !yield(s.key, s.value) {
				return
			}
		}
	}
}

// slice are up to n values behind the first skip ones.
func (o *ordered[T]) slice(skip, n int) []T {
	if len(o.slots) == len(o.at) { // no holes
		from := min(skip, len(o.slots))
		to := min(from+n, len(o.slots))
		out := make([]T, 0, to-from)
		for _, s := range o.slots[from:to] {
			out = append(out, s.value)
		}
		return out
	}
	var out []T
	for _, v := range o.all() {
		if skip--; skip >= 0 {
			continue
		}
		if len(out) == n {
			break
		}
		out = append(out, v)
	}
	return out
}
