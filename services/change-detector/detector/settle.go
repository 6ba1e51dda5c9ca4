package detector

import "maps"

// maxRounds bounds how often one pass is derived again; what is dirty then is
// looked at in the next pass.
const maxRounds = 10

// derived is what one derivation leaves for the next.
type derived struct {
	scope closures
	held  map[ID]struct{} // removals that wait
}

// settle is the pure part of a pass, in rounds until nothing changes any more:
//
//  1. evaluate the scope groups and choose what to compare
//  2. compare it with what was published; what takes nothing away flows at once,
//     which is the caller's
//  3. apply: decide, publish and remember, which is the caller's
//  4. bury the ghosts whose removal is published; that changes their groups, and
//     who is in scope
func settle(m *mirror, d *derived, mem memory, flow func(*publication) error, apply func(*pass) error) error {
	for range maxRounds {
		ids := m.affected(d)                       // 1
		p, err := diff(m, mem, ids, d.scope, flow) // 2
		if err != nil {
			return err
		}
		looked, full := m.dirty, m.full
		m.dirty, m.full = map[ID]struct{}{}, false
		if err := apply(&p); err != nil { // 3
			maps.Copy(m.dirty, looked)
			m.full = full
			return err
		}
		if buried := m.buryPublished(mem); buried == 0 && len(m.dirty) == 0 { // 4
			return nil
		}
	}
	return nil
}

// affected are the entries to compare: nil for all, or those that changed, the
// groups above them, those whose place in the scope groups changed, and those
// that are held.
func (m *mirror) affected(d *derived) map[ID]struct{} {
	former, regrouped := d.scope, m.regrouped
	if regrouped {
		d.scope, m.regrouped = m.closures(), false
	}
	if m.full {
		return nil
	}
	ids := m.above(m.dirty)
	for _, kind := range kinds {
		if regrouped && !former.of(kind).moved(d.scope.of(kind), ids) {
			return nil // a group came or went that a filter names
		}
	}
	for id := range d.held {
		ids[id] = struct{}{}
	}
	return ids
}
