package scim

// Profile holds the ways of one kind of target, where the RFC leaves a choice or
// a target departs from it. The profile wins over what the target says about
// itself in its ServiceProviderConfig.
type Profile struct {
	// Name is the profile's name in the configuration.
	Name string
	// PatchSupported says that PATCH works; otherwise changes are sent by PUT.
	PatchSupported bool
	// MaxMembersPerRequest bounds the member changes in one request.
	MaxMembersPerRequest int
	// MembersOnCreate says that POST /Groups keeps the members in its body;
	// otherwise they are added by PATCH afterwards.
	MembersOnCreate bool
	// UserNameUnique says that the target refuses a second user with the same
	// userName (409), so that a user may be created without a look-up first.
	UserNameUnique bool
	// ExternalIDAllowed says that the target keeps externalId as it was sent.
	ExternalIDAllowed bool
	// PageSize is the count asked for in a listing.
	PageSize int
	// OmitMembersOnWrite adds excludedAttributes=members to writes of a group, so
	// that a one-member change does not return all members. Only for targets that
	// were tried: some read the group with the members excluded, apply the PATCH to
	// that and store it, and so lose every other member.
	OmitMembersOnWrite bool
	// Rates are limits on kinds of calls, besides that on all of them.
	Rates Rates
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

// Profiles are the built-in profiles by name. The table is never changed.
var Profiles = map[string]Profile{
	"generic": {
		Name:                 "generic",
		PatchSupported:       true,
		MaxMembersPerRequest: 100,
		MembersOnCreate:      true,
		UserNameUnique:       true,
		ExternalIDAllowed:    true,
		PageSize:             100,
	},
	"permissive": {
		Name:                 "permissive",
		PatchSupported:       true,
		MaxMembersPerRequest: 100,
		MembersOnCreate:      false,
		UserNameUnique:       false,
		ExternalIDAllowed:    true,
		PageSize:             100,
	},
}

// Generic is the profile of a target that nothing particular is known about.
func Generic() Profile { return Profiles["generic"] }

// withDefaults fills the numbers that a profile left at zero; the zero profile
// is the generic one.
func (p Profile) withDefaults() Profile {
	generic := Generic()
	if p == (Profile{}) {
		return generic
	}
	if p.MaxMembersPerRequest <= 0 {
		p.MaxMembersPerRequest = generic.MaxMembersPerRequest
	}
	if p.PageSize <= 0 {
		p.PageSize = generic.PageSize
	}
	return p
}
