package worker

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Unapplied is an attribute that the target did not apply.
type Unapplied struct {
	// Path and Value are those of the link's attributes; no value: it was to be cleared.
	Path  string
	Value []byte
	// Immutable says that the target refuses every change of the attribute.
	Immutable bool
	// Status is the HTTP status of the answer; 0 when nothing was sent.
	Status int
	// Reason is what the target did, with the key that helps. No values stand in it.
	Reason string
}

// Unapplied notes that the target did not apply an attribute. Settle leaves it out of
// what counts as applied, and puts it into the link instead.
func (j *Job) Unapplied(ctx context.Context, u Unapplied) {
	if j.unapplied == nil {
		j.unapplied = map[string]*provisioningv1.UnappliedAttribute{}
	}
	j.unapplied[u.Path] = &provisioningv1.UnappliedAttribute{
		Path: u.Path, Value: u.Value, Immutable: u.Immutable, Reason: u.Reason, HttpStatus: uint32(max(0, u.Status)), //nolint:gosec // an HTTP status
		Since: timestamppb.Now(), ConfigurationHash: j.worker.cfg.Hash,
	}
	j.Log().WarnContext(ctx, "the target did not apply an attribute", "attribute", u.Path, "reason", u.Reason)
}

// LeftOut are the paths of a desired state that are not sent, because the target did not
// apply the same value before. What the link remembers of others is forgotten: they are
// tried again, or their value is the applied one. Nothing is left out when a person asked
// for another try.
func (j *Job) LeftOut(d *plan.Desired) []string {
	var paths []string
	kept := slices.DeleteFunc(slices.Clone(j.Record.Link.GetUnapplied()), func(u *provisioningv1.UnappliedAttribute) bool { return !j.leavesOut(u, d) })
	for _, u := range kept {
		paths = append(paths, u.GetPath())
	}
	if !j.dry {
		j.Record.Link.Unapplied = kept
	}
	for _, path := range paths {
		delete(d.Attributes, path)
	}
	d.Absent = slices.DeleteFunc(d.Absent, func(path string) bool { return slices.Contains(paths, path) })
	return paths
}

func (j *Job) leavesOut(u *provisioningv1.UnappliedAttribute, d *plan.Desired) bool {
	if !d.InScope { // nothing is compared
		return true
	}
	want, has := d.Attributes[u.GetPath()]
	cleared := slices.Contains(d.Absent, u.GetPath())
	applied, remembered := j.Record.Link.GetAttributes()[u.GetPath()]
	switch {
	case !has && !cleared, j.Asked(), u.GetConfigurationHash() != j.worker.cfg.Hash:
		return false
	case has && bytes.Equal(want, applied), cleared && !remembered:
		return false // that is what it holds
	}
	return u.GetImmutable() || bytes.Equal(want, u.GetValue())
}

// settleUnapplied puts what the target did not apply into the link.
func (j *Job) settleUnapplied() {
	l := j.Record.Link
	l.Unapplied = slices.DeleteFunc(l.GetUnapplied(), func(u *provisioningv1.UnappliedAttribute) bool { return j.unapplied[u.GetPath()] != nil })
	for _, u := range j.unapplied {
		l.Unapplied = append(l.Unapplied, u)
	}
	slices.SortFunc(l.GetUnapplied(), func(a, b *provisioningv1.UnappliedAttribute) int { return strings.Compare(a.GetPath(), b.GetPath()) })
	j.Outcome.Attributes = slices.DeleteFunc(j.Outcome.GetAttributes(), func(path string) bool { return j.unapplied[path] != nil })
}

// Immutables are the attributes that a target refused to change. One resource proves
// nothing about the others: an attribute counts as immutable everywhere after several.
type Immutables struct {
	mu      sync.Mutex
	refused map[string]map[string]struct{} // resources by path
}

// refusalsThatProve is of how many resources an attribute has to be refused until it is
// not sent to any other one.
const refusalsThatProve = 3

// Refused notes that the target refused to change an attribute of a resource.
func (i *Immutables) Refused(path, resourceID string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.refused == nil {
		i.refused = map[string]map[string]struct{}{}
	}
	if i.refused[path] == nil {
		i.refused[path] = map[string]struct{}{}
	}
	if len(i.refused[path]) < refusalsThatProve {
		i.refused[path][resourceID] = struct{}{}
	}
}

// Everywhere says whether the target refuses to change an attribute of any resource.
// Never so active: a user who cannot be disabled says nothing about the next one.
func (i *Immutables) Everywhere(path string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return path != "active" && len(i.refused[path]) >= refusalsThatProve
}

// Hint names what helps where a target answered as if it had applied an attribute. patched
// says that it was sent by PATCH.
func Hint(p scim.Profile, path string, patched bool) string {
	at, err := scim.ParsePath(path)
	switch {
	case err == nil && patched && at.URN != "" && p.ExtensionPatch == scim.ExtensionByPath:
		return "set target.overrides.extension_patch to nested, or to put"
	case err == nil && patched && at.URN != "":
		return "set target.overrides.extension_patch to put"
	case path == "externalId":
		return "set target.overrides.external_id to false"
	case path == "active" && patched && p.Put:
		return "if PUT changes it, name the attributes that PATCH changes in target.overrides.patch_only; if the target cannot disable users, set users.remove to delete or keep"
	case path == "active":
		return "if the target cannot disable users, set users.remove to delete or keep"
	case patched && p.Put:
		return "if PUT changes it, name the attributes that PATCH changes in target.overrides.patch_only; if nothing does, name it in target.overrides.drop"
	default:
		return "name it in target.overrides.drop, or in immutable if a creation sets it"
	}
}

// HintForGroup is Hint for an attribute of a group.
func HintForGroup(path string, patched bool) string {
	switch {
	case path == "externalId":
		return "set target.overrides.external_id to false"
	case patched:
		return "if PUT changes it, set target.overrides.group_patch to false; otherwise name it in target.overrides.immutable, or in drop"
	default:
		return "name it in target.overrides.drop, or in immutable if a creation sets it"
	}
}

// ImmutableReason is why an attribute that a target refuses to change is not applied.
func ImmutableReason(where string) string {
	return fmt.Sprintf("the target refuses to change it %s: map it with on: create, or name it in target.overrides.immutable", where)
}
