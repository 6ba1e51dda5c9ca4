//go:build cluster

package cluster

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestWitnessSeesHarm shows the witness what it is there for, without a cluster.
func TestWitnessSeesHarm(t *testing.T) {
	t.Parallel()
	ann, bob := account{name: "u00000", externalID: "a", active: true}, account{name: "u00001", externalID: "b", active: true}
	team := group{name: "team0000", externalID: "t", members: []string{"1", "2"}}
	before := holding{users: map[string]account{"1": ann, "2": bob}, groups: map[string]group{"3": team}}
	idle, twin := ann, account{name: "other", externalID: "A"}
	idle.active = false
	alone, renamed := team, team
	alone.members = []string{"1"}
	renamed.name = "team0009"
	tests := map[string]struct {
		after holding
		cause func(w *world)
		want  string
	}{
		"nothing happens":      {after: before},
		"deletion":             {holding{map[string]account{"1": ann}, map[string]group{"3": alone}}, nil, "u00001 was deleted"},
		"deletion with cause":  {holding{map[string]account{"1": ann}, map[string]group{"3": alone}}, func(w *world) { w.deleted[2] = true }, ""},
		"disable":              {holding{map[string]account{"1": idle, "2": bob}, before.groups}, nil, "u00000 was disabled"},
		"disable with cause":   {holding{map[string]account{"1": idle, "2": bob}, before.groups}, func(w *world) { w.disabled[1] = true }, ""},
		"member":               {holding{before.users, map[string]group{"3": alone}}, nil, "u00001 was removed from team0000"},
		"member with cause":    {holding{before.users, map[string]group{"3": alone}}, func(w *world) { w.left[[2]int{3, 2}] = true }, ""},
		"group":                {holding{before.users, nil}, nil, "team0000 was deleted"},
		"group with cause":     {holding{before.users, nil}, func(w *world) { w.disbanded[3] = true }, ""},
		"group is renamed":     {holding{before.users, map[string]group{"3": renamed}}, nil, ""},
		"second account":       {holding{map[string]account{"1": ann, "2": bob, "9": twin}, before.groups}, nil, "two have user's externalId a"},
		"second group":         {holding{before.users, map[string]group{"3": team, "4": {name: "team0000"}}}, nil, "two have displayName team0000"},
		"unknown user deleted": {holding{map[string]account{"2": bob}, before.groups}, func(w *world) { delete(w.named, "u00000") }, "u00000 was deleted"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(rand.New(rand.NewPCG(1, 1)), 2, 1)
			if test.cause != nil {
				test.cause(w)
			}
			g := &target{world: w}
			g.judge("PATCH", before, test.after)
			found := slices.ContainsFunc(g.harm, func(one harm) bool { return strings.Contains(one.what, test.want) })
			if test.want == "" && len(g.harm) > 0 || test.want != "" && !found {
				t.Errorf("the witness says %v, want %q", g.harm, test.want)
			}
		})
	}
}
