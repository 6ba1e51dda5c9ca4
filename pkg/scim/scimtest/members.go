package scimtest

import (
	"reflect"
	"slices"
)

// transaction changes the members of one group and can take all of it back. The
// store's lock is held all the while.
type transaction struct {
	store   *store
	group   *record
	undos   []func()
	touched int // member changes that were asked for
}

func (tx *transaction) changed() bool { return len(tx.undos) > 0 }

func (tx *transaction) undo() {
	for _, undo := range slices.Backward(tx.undos) {
		undo()
	}
	tx.undos = nil
}

func (tx *transaction) count(n int) error {
	tx.touched += n
	if limit := tx.store.opts.MaxMembers; limit > 0 && tx.touched > limit {
		return invalid(typeValue, "%d member changes in one request, %d are allowed", tx.touched, limit)
	}
	return nil
}

// add makes resources members; who is one already stays as he is.
func (tx *transaction) add(members []any) error {
	if err := tx.count(len(members)); err != nil {
		return err
	}
	for _, m := range members {
		object, _ := m.(map[string]any)
		id, _ := object["value"].(string)
		if id == "" {
			return invalid(typeValue, "a member needs a value")
		}
		target := tx.store.any(id)
		switch {
		case id == tx.group.id:
			return invalid(typeValue, "a group cannot be its own member")
		case target == nil && !tx.store.quirks().AcceptUnknownMembers:
			return invalid(typeValue, "there is no resource %s", id)
		case tx.store.quirks().refusesMember(target):
			return invalid(typeValue, "%s cannot be a member", id)
		case !tx.group.members.has(id):
			tx.insert(id, target)
		case tx.store.quirks().DuplicateMembers:
			tx.repeat(id)
		}
	}
	return nil
}

func (tx *transaction) insert(id string, target *record) {
	group := tx.group
	group.members.add(id, target)
	if target != nil {
		target.groups.add(group.id, group)
	}
	tx.undos = append(tx.undos, func() {
		group.members.remove(id)
		if target != nil {
			target.groups.remove(group.id)
		}
	})
}

// repeat makes a member stand there once more.
func (tx *transaction) repeat(id string) {
	group := tx.group
	group.again[id]++
	tx.undos = append(tx.undos, func() { group.again[id]-- })
}

// remove takes one member out; who is none is no error.
func (tx *transaction) remove(id string) error {
	if err := tx.count(1); err != nil {
		return err
	}
	group := tx.group
	target, ok := group.members.get(id)
	if !ok {
		return nil
	}
	again := group.again[id]
	group.members.remove(id)
	delete(group.again, id)
	if target != nil {
		target.groups.remove(group.id)
	}
	tx.undos = append(tx.undos, func() {
		group.again[id] = again
		group.members.add(id, target)
		if target != nil {
			target.groups.add(group.id, group)
		}
	})
	return nil
}

// clear takes all members out.
func (tx *transaction) clear() {
	group, before, again := tx.group, tx.group.members, tx.group.again
	group.members, group.again = newOrdered[*record](), map[string]int{}
	for _, target := range before.all() {
		if target != nil {
			target.groups.remove(group.id)
		}
	}
	tx.undos = append(tx.undos, func() {
		group.members, group.again = before, again
		for _, target := range before.all() {
			if target != nil {
				target.groups.add(group.id, group)
			}
		}
	})
}

// matching are the ids of the members for which a filter holds.
func (tx *transaction) matching(filter expression) []string {
	if c, ok := filter.(comparison); ok && c.op == "eq" && c.path.attr.name == "value" {
		id, _ := c.value.(string)
		return []string{id}
	}
	var ids []string
	for id, target := range tx.group.members.all() {
		if filter.eval(object(tx.store.memberView(id, target))) {
			ids = append(ids, id)
		}
	}
	return ids
}

// takeMembers takes the members out of the attributes of a body.
func takeMembers(attrs map[string]any) []any {
	members, _ := attrs["members"].([]any)
	delete(attrs, "members")
	return members
}

func equal(a, b map[string]any) bool { return reflect.DeepEqual(a, b) }
