package scim

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Values of Profile.MembersReadable.
const (
	ReadableYes       = "yes"
	ReadableOnRequest = "on-request"
	ReadableNo        = "no"
)

// Values of Profile.Delete.
const (
	DeleteDeletes  = "delete"
	DeleteDisables = "disable"
)

// Values of Profile.ExtensionPatch.
const (
	ExtensionByPath = "urn-path"
	ExtensionNested = "nested"
	ExtensionByPut  = "put"
)

// UniqueNone is the value of Profile.Unique for a target that keeps nothing unique.
const UniqueNone = "none"

// Profile holds the ways of one kind of target, where the RFC leaves a choice or
// a target departs from it. Make one from Generic: the zero Profile stands for it,
// and in any other one a knob that is false is off.
//
// Fixed names the knobs that somebody decided, in the profile or in the
// configuration; they win over what the target says about itself. The others are
// open, and discovery may fill them.
type Profile struct {
	// Name is the profile's name in the configuration.
	Name string `yaml:"-" hash:"-"`
	// Fixed are the YAML names of the knobs that are not open, sorted.
	Fixed []string `yaml:"-" hash:"-"`
	// Rate is the limit that the target's vendor states, where target.rate says
	// nothing; zero where none is known.
	Rate Rate `yaml:"-" hash:"-"`

	// PatchSupported says that PATCH of a user works; otherwise changes are sent by
	// PUT.
	PatchSupported bool `yaml:"patch"`
	// PatchOnly are the attributes of a user that PATCH can change; empty: all. Zoom
	// takes a PATCH for active alone, GitLab for active and externalId.
	PatchOnly []string `yaml:"patch_only"`
	// Put says that PUT of a user works. GitLab has none: together with PatchOnly,
	// what PATCH cannot change is set at the creation alone.
	Put bool `yaml:"put"`
	// ExtensionPatch is how PATCH names an attribute of an extension: by its URN path,
	// as an object without a path, which holds all that is mapped of the extension because
	// some targets replace it, or not at all, so that PUT has to.
	ExtensionPatch string `yaml:"extension_patch"`
	// BoolAsString sends active as "True" and "False", as old Entra targets want it.
	BoolAsString bool `yaml:"bool_as_string"`

	// GroupPatch says that PATCH of a group works.
	GroupPatch bool `yaml:"group_patch"`
	// GroupPut says that PUT of a group works and keeps the members in its body.
	// Keycloak refuses members there; the AWS one takes 100.
	GroupPut bool `yaml:"group_put"`
	// MaxMembersPerRequest bounds the member changes in one PATCH. AWS, better-auth and
	// FusionAuth take 100; FusionAuth drops the rest in silence.
	MaxMembersPerRequest int `yaml:"max_members"`
	// MaxMembersOnCreate bounds the members in the body of a POST or PUT; as in a PATCH
	// when 0.
	MaxMembersOnCreate int `yaml:"max_members_on_create"`
	// MembersOnCreate says that POST /Groups keeps the members in its body;
	// otherwise they are added by PATCH afterwards. Keycloak refuses them, Polis drops
	// them in silence.
	MembersOnCreate bool `yaml:"members_on_create"`
	// MembersReadable says whether a read of a group returns its members: yes, only
	// where attributes=members asks for them (Keycloak), or never (AWS, Polis).
	MembersReadable string `yaml:"members_readable"`
	// MemberRemoveVouched says that the removal of one member by
	// `members[value eq "…"]` is known to leave the others: otherwise that is tried on a
	// throwaway group before the first removal.
	MemberRemoveVouched bool `yaml:"member_remove_vouched"`
	// OmitMembersOnWrite adds excludedAttributes=members to writes of a group, so
	// that a one-member change does not return all members. Only for targets that
	// were tried: some read the group with the members excluded, apply the PATCH to
	// that and store it, and so lose every other member.
	OmitMembersOnWrite bool `yaml:"omit_members_on_write" hash:"-"`

	// Unique is the attribute of a user of which the target refuses a second one (409),
	// so that a user may be created without a look-up first; UniqueNone for none.
	Unique string `yaml:"unique"`
	// CaseSensitive says that the target compares userName exactly: a look-up tries it
	// in lower case, too, and comes before a creation, because the target would take a
	// second user whose name differs in case alone. Polis and scimmy do.
	CaseSensitive bool `yaml:"case_sensitive"`
	// Filter says that a listing can be filtered (RFC 7644 section 3.4.2.2). Otherwise a
	// look-up reads the whole listing, which look-ups at the same time share.
	Filter bool `yaml:"filter" hash:"-"`
	// Lookup gives the path by which a filter names an attribute, where it is not the
	// attribute's own: `emails.value: emails`.
	Lookup map[string]string `yaml:"lookup"`
	// ExternalIDAllowed says that the target keeps externalId as it was sent.
	ExternalIDAllowed bool `yaml:"external_id"`
	// Attributes are those that the target has besides the ones of RFC 7643, so that a
	// mapping of them is no misspelling.
	Attributes []string `yaml:"attributes" hash:"-"`
	// Drop are the attributes that are never sent.
	Drop []string `yaml:"drop"`
	// Immutable are the attributes that are sent when a resource is created and never
	// again: to change them is refused.
	Immutable []string `yaml:"immutable"`
	// Proof says what shows that a PATCH, PUT or DELETE was done: the answer, which is
	// 204, the resource, or for DELETE nothing; or the status alone, for a target that is
	// known to answer with something else and never with 2xx where it refused.
	Proof string `yaml:"proof"`
	// Delete says what becomes of a user by DELETE: gone, or only disabled (Slack,
	// Atlassian, Salesforce).
	Delete string `yaml:"delete"`

	// PageSize is the count asked for in a listing.
	PageSize int `yaml:"page_size" hash:"-"`
	// Cursor lists by cursor (RFC 9865) instead of by index.
	Cursor bool `yaml:"cursor" hash:"-"`
	// Rates are limits on kinds of calls, besides that on all of them.
	Rates Rates `yaml:"rates" hash:"-"`
	// Retry403 says that the target answers 403 where others answer 429, also without
	// Retry-After. GitHub does.
	Retry403 bool `yaml:"retry_403"`
	// UserAgent is sent instead of Rollcall's own.
	UserAgent string `yaml:"user_agent" hash:"-"`
	// MaxBodyBytes bounds the body of a request; no limit when 0. Miro takes 800,000.
	MaxBodyBytes int `yaml:"max_body_bytes"`
}

// Rate is a limit on calls.
type Rate struct {
	RequestsPerSecond float64 `yaml:"requests_per_second"` // 0: no limit
	Burst             int     `yaml:"burst"`
}

// CallClass is a kind of calls for which a target may have its own limit.
type CallClass string

// The classes. What is no write of a user and no read is GroupPatch.
const (
	ClassUserCreate CallClass = "user-create"
	ClassUserWrite  CallClass = "user-write"
	ClassUserDelete CallClass = "user-delete"
	ClassGroupPatch CallClass = "group-patch"
	ClassRead       CallClass = "read"
)

// Rates are the limits by class; a zero one is no limit.
type Rates struct {
	UserCreate Rate `yaml:"user-create"`
	UserWrite  Rate `yaml:"user-write"`
	UserDelete Rate `yaml:"user-delete"`
	GroupPatch Rate `yaml:"group-patch"`
	Read       Rate `yaml:"read"`
}

// Of is the limit of a class.
func (r Rates) Of(class CallClass) Rate {
	switch class {
	case ClassUserCreate:
		return r.UserCreate
	case ClassUserWrite:
		return r.UserWrite
	case ClassUserDelete:
		return r.UserDelete
	case ClassGroupPatch:
		return r.GroupPatch
	case ClassRead:
		return r.Read
	default:
		return Rate{}
	}
}

// base is the profile in which every knob is open.
func base() Profile {
	return Profile{
		PatchSupported:       true,
		Put:                  true,
		ExtensionPatch:       ExtensionByPath,
		GroupPatch:           true,
		GroupPut:             true,
		MaxMembersPerRequest: 100,
		MembersOnCreate:      true,
		MembersReadable:      ReadableYes,
		Unique:               "userName",
		Filter:               true,
		ExternalIDAllowed:    true,
		Delete:               DeleteDeletes,
		Proof:                ProofByAnswer,
		PageSize:             100,
	}
}

// withDefaults fills what a profile left out; the zero profile is the generic one.
func (p Profile) withDefaults() Profile {
	generic := Generic()
	if reflect.ValueOf(p).IsZero() {
		p = generic
	}
	if p.MaxMembersPerRequest <= 0 {
		p.MaxMembersPerRequest = generic.MaxMembersPerRequest
	}
	if p.MaxMembersOnCreate <= 0 {
		p.MaxMembersOnCreate = p.MaxMembersPerRequest
	}
	if p.PageSize <= 0 {
		p.PageSize = generic.PageSize
	}
	p.MembersReadable = cmp.Or(p.MembersReadable, generic.MembersReadable)
	p.ExtensionPatch = cmp.Or(p.ExtensionPatch, generic.ExtensionPatch)
	p.Unique = cmp.Or(p.Unique, generic.Unique)
	p.Delete = cmp.Or(p.Delete, generic.Delete)
	p.Proof = cmp.Or(p.Proof, generic.Proof)
	return p
}

// Patches says whether PATCH can change an attribute of a user; otherwise PUT has
// to.
func (p Profile) Patches(path string) bool {
	at, err := ParsePath(path)
	switch {
	case !p.PatchSupported || err != nil:
		return false
	case at.URN != "" && p.ExtensionPatch == ExtensionByPut:
		return false
	}
	return len(p.PatchOnly) == 0 || names(p.PatchOnly, at)
}

// Clears says whether PATCH can clear an attribute of a user; an object without a path
// can only set.
func (p Profile) Clears(path string) bool {
	at, err := ParsePath(path)
	return err == nil && p.Patches(path) && (at.URN == "" || p.ExtensionPatch != ExtensionNested)
}

// lookedUpBy is the path by which a filter names an attribute.
func (p Profile) lookedUpBy(attribute Path) Path {
	attribute.Filter = nil
	for from, to := range p.Lookup {
		key, err := lookUpPath(from, "any")
		value, toErr := ParsePath(to)
		if err == nil && toErr == nil && key == attribute {
			return value
		}
	}
	return attribute
}

// Drops says that an attribute is never sent.
func (p Profile) Drops(path Path) bool { return names(p.Drop, path) }

// Has says that the profile names an attribute as one of the target's own.
func (p Profile) Has(path Path) bool {
	return names(slices.Concat(p.Attributes, p.PatchOnly, p.Immutable, p.Drop, slices.Collect(maps.Keys(p.Lookup))), path)
}

// Keeps says that an attribute of a user cannot be changed once it was set.
func (p Profile) Keeps(path Path) bool {
	return names(p.Immutable, path) || !p.Put && !p.Patches(path.String())
}

// KeepsOfGroup says that an attribute of a group cannot be changed once it was set.
func (p Profile) KeepsOfGroup(path Path) bool { return names(p.Immutable, path) }

// names says whether one of the paths is the attribute, or one that it is a part
// of.
func names(paths []string, at Path) bool {
	return slices.ContainsFunc(paths, func(one string) bool {
		p, err := ParsePath(one)
		return err == nil && p.URN == at.URN && strings.EqualFold(p.Attribute, at.Attribute) &&
			(p.Sub == "" || strings.EqualFold(p.Sub, at.Sub)) && (p.Filter == nil || at.Filter != nil && *p.Filter == *at.Filter)
	})
}

// IsFixed says whether somebody decided a knob, by its YAML name.
func (p Profile) IsFixed(knob string) bool {
	_, found := slices.BinarySearch(p.Fixed, knob)
	return found
}

// WithFixed is the profile in which somebody decided these knobs, too.
func (p Profile) WithFixed(knobs ...string) Profile {
	p.Fixed = slices.Compact(slices.Sorted(slices.Values(slices.Concat(p.Fixed, knobs))))
	return p
}
