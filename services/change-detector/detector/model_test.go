package detector

import (
	"encoding/binary"
	"fmt"
)

// sidOf is a security identifier of the model's domain.
func sidOf(n int) string {
	return string(binary.LittleEndian.AppendUint32([]byte("\x01\x02\x00\x00\x00\x00\x00\x05\x15\x00\x00\x00"), uint32(n)))
}

func (m *model) toggleJoined(live *mirror, g, o *object) string {
	if g == nil || o == nil || !m.joins {
		return ""
	}
	toggle(o.joined, g.id)
	live.Put(m.entry(o))
	return fmt.Sprintf("%s joins or leaves %s", o.dn, g.dn)
}

func (m *model) changeUID(live *mirror, o *object, uid string) string {
	if o == nil || m.taken("", uid) {
		return ""
	}
	o.uid = uid
	live.Put(m.entry(o))
	return "uid of " + o.dn + " is " + uid
}

func (m *model) changePrimary(live *mirror, o *object, group int) string {
	if o == nil || !m.primary {
		return ""
	}
	o.primary = group
	live.Put(m.entry(o))
	return fmt.Sprintf("primary group of %s is %d", o.dn, group)
}

func toggle[K comparable](set map[K]bool, key K) {
	if set[key] {
		delete(set, key)
	} else {
		set[key] = true
	}
}
