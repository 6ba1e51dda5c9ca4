package scim

import (
	"context"
	"errors"
	"net/http"
	"strings"
)

// ServiceProviderConfig is what a target says about itself. It is a hint: targets
// are wrong about themselves, and the profile wins.
type ServiceProviderConfig struct {
	Patch          bool
	Filter         bool
	FilterMax      int // 0: not said
	Bulk           bool
	ETag           bool
	Sort           bool
	ChangePassword bool
	CursorOnly     bool // lists by cursor and not by index (RFC 9865)
	MaxPage        int  // 0: not said
}

// configEndpoints are where targets have it: Salesforce, and SCIM 1.1, at the second.
var configEndpoints = []string{"/ServiceProviderConfig", "/ServiceProviderConfigs"}

// Capabilities reads the target's ServiceProviderConfig.
func (c *Client) Capabilities(ctx context.Context) (ServiceProviderConfig, error) {
	var err error
	for _, path := range configEndpoints {
		var spc ServiceProviderConfig
		if spc, err = c.capabilities(ctx, path); err == nil || !absent(err) {
			return spc, err
		}
	}
	return ServiceProviderConfig{}, err
}

func (c *Client) capabilities(ctx context.Context, path string) (ServiceProviderConfig, error) {
	type supported struct {
		Supported bool `json:"supported"`
	}
	var spc struct {
		Patch, Bulk, ETag, Sort, ChangePassword supported

		Filter struct {
			Supported  *bool `json:"supported"` // what is not said is no refusal
			MaxResults int   `json:"maxResults"`
		}
		Pagination struct {
			Cursor      bool `json:"cursor"`
			Index       bool `json:"index"`
			MaxPageSize int  `json:"maxPageSize"`
		}
	}
	if err := c.describe(ctx, path, whatItDoes, &spc); err != nil {
		return ServiceProviderConfig{}, err
	}
	return ServiceProviderConfig{
		Patch: spc.Patch.Supported, Bulk: spc.Bulk.Supported, ETag: spc.ETag.Supported, Sort: spc.Sort.Supported,
		Filter: spc.Filter.Supported == nil || *spc.Filter.Supported, FilterMax: spc.Filter.MaxResults, ChangePassword: spc.ChangePassword.Supported,
		CursorOnly: spc.Pagination.Cursor && !spc.Pagination.Index, MaxPage: spc.Pagination.MaxPageSize,
	}, nil
}

// describe reads what a target says about itself at a path.
func (c *Client) describe(ctx context.Context, path string, expected expects, into any) error {
	req := c.endpoint(http.MethodGet, path)
	req.expects = expected
	resp, err := c.do(ctx, req)
	if err != nil {
		return err
	}
	if err := decodeJSON(resp.body, into); err != nil {
		return req.failed(resp, err)
	}
	return nil
}

// absent says that a target has not got an endpoint, or nothing useful there.
func absent(err error) bool {
	switch Classify(err) {
	case Gone, NoEndpoint, Misrouted, Unsupported, Rejected, Forbidden, Redirected, Unread, Unproven:
		return true
	default:
		return false
	}
}

// Discovered is what a target says about itself, as far as it changes how it is
// called.
type Discovered struct {
	NoPatch         bool     `json:"no_patch,omitempty"`         // it has no PATCH
	CursorOnly      bool     `json:"cursor_only,omitempty"`      // it lists by cursor alone
	MaxPage         int      `json:"max_page,omitempty"`         // resources on one page; 0: not said
	NoFilter        bool     `json:"no_filter,omitempty"`        // a listing cannot be filtered
	CaseExact       bool     `json:"case_exact,omitempty"`       // userName is compared exactly
	RepeatsUserName bool     `json:"repeats_username,omitempty"` // userName is not unique
	NoGroups        bool     `json:"no_groups,omitempty"`        // it has users alone
	Silent          []string `json:"silent,omitempty"`           // what it does not say
	// Attributes are those of /Schemas in lower case, each behind its schema's URN and a
	// colon, sub-attributes behind a dot; none where it does not say.
	Attributes []string `json:"attributes,omitempty"`
}

// schemaList is an answer of /Schemas or /ResourceTypes.
type schemaList struct {
	Resources []struct {
		ID         string `json:"id"`
		Endpoint   string `json:"endpoint"`
		Attributes []struct {
			Name       string `json:"name"`
			CaseExact  *bool  `json:"caseExact"`
			Uniqueness string `json:"uniqueness"`

			SubAttributes []struct {
				Name string `json:"name"`
			} `json:"subAttributes"`
		} `json:"attributes"`
	} `json:"Resources"`
}

// Discover asks the target about itself. Each part is optional: one that is missing or
// cannot be read says nothing. An error means that the target did not answer.
func (c *Client) Discover(ctx context.Context) (Discovered, error) {
	var d Discovered
	var types, schemas schemaList
	for _, part := range []struct {
		name string
		read func() error
	}{
		{"ServiceProviderConfig", func() error {
			spc, err := c.Capabilities(ctx)
			if err == nil {
				d.NoPatch, d.NoFilter, d.CursorOnly, d.MaxPage = !spc.Patch, !spc.Filter, spc.CursorOnly, smaller(spc.FilterMax, spc.MaxPage)
			}
			return err
		}},
		{"ResourceTypes", func() error { return c.describe(ctx, "/ResourceTypes", aList, &types) }},
		{"Schemas", func() error { return c.describe(ctx, "/Schemas", aList, &schemas) }},
	} {
		err := part.read()
		switch {
		case err != nil && !absent(err):
			return Discovered{}, err
		case err != nil:
			d.Silent = append(d.Silent, part.name)
		}
	}
	d.readTypes(types, c.cfg.GroupsPath)
	d.readSchemas(schemas)
	d.readAttributes(schemas)
	return d, nil
}

// smaller is the smaller one of two limits, of which 0 is none.
func smaller(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func (d *Discovered) readTypes(types schemaList, groups string) {
	d.NoGroups = len(types.Resources) > 0
	for _, r := range types.Resources {
		if strings.EqualFold(strings.Trim(r.Endpoint, "/"), strings.Trim(groups, "/")) {
			d.NoGroups = false
		}
	}
}

func (d *Discovered) readSchemas(schemas schemaList) {
	for _, r := range schemas.Resources {
		if !strings.EqualFold(r.ID, SchemaUser) {
			continue
		}
		for _, a := range r.Attributes {
			if strings.EqualFold(a.Name, "userName") {
				d.CaseExact = a.CaseExact != nil && *a.CaseExact
				d.RepeatsUserName = strings.EqualFold(a.Uniqueness, "none")
			}
		}
	}
}

// Learned is what a target's answers showed.
type Learned struct {
	NoUserPatch  bool `json:"no_user_patch,omitempty"`  // PATCH of a user is a 405 or 501
	NoGroupPatch bool `json:"no_group_patch,omitempty"` // PATCH of a group is
	MaxMembers   int  `json:"max_members,omitempty"`    // more of them in one request are refused; 0: not known
	NoFilter     bool `json:"no_filter,omitempty"`      // a filtered listing returns what the filter does not name
}

// Join is what both know.
func (l Learned) Join(other Learned) Learned {
	return Learned{
		NoUserPatch: l.NoUserPatch || other.NoUserPatch, NoGroupPatch: l.NoGroupPatch || other.NoGroupPatch,
		MaxMembers: smaller(l.MaxMembers, other.MaxMembers), NoFilter: l.NoFilter || other.NoFilter,
	}
}

// With is the profile with what the target says of itself where nobody decided, and
// with what its answers showed: that wins over everything.
func (p Profile) With(said Discovered, learned Learned) Profile {
	open := func(knob string) bool { return !p.IsFixed(knob) }
	if said.NoPatch {
		p.PatchSupported = p.PatchSupported && !open("patch")
		p.GroupPatch = p.GroupPatch && !open("group_patch")
	}
	if said.CursorOnly && open("cursor") {
		p.Cursor = true
	}
	if said.MaxPage > 0 && open("page_size") {
		p.PageSize = min(p.PageSize, said.MaxPage)
	}
	if said.NoFilter && open("filter") {
		p.Filter = false
	}
	if said.CaseExact && open("case_sensitive") {
		p.CaseSensitive = true
	}
	if said.RepeatsUserName && open("unique") && p.Unique == "userName" {
		p.Unique = UniqueNone
	}
	p.PatchSupported = p.PatchSupported && !(learned.NoUserPatch && p.Put)
	p.GroupPatch = p.GroupPatch && !(learned.NoGroupPatch && p.GroupPut)
	p.Filter = p.Filter && !learned.NoFilter
	if learned.MaxMembers > 0 {
		p.MaxMembersPerRequest = min(p.MaxMembersPerRequest, learned.MaxMembers)
		p.MaxMembersOnCreate = min(p.MaxMembersOnCreate, learned.MaxMembers)
	}
	return p
}

// learn tells of a PATCH that the target does not have.
func (c *Client) learn(method string, kind Kind, err error) {
	if method != http.MethodPatch || c.cfg.Learned == nil || !IsUnsupported(err) {
		return
	}
	c.cfg.Learned(Learned{NoUserPatch: kind == KindUser, NoGroupPatch: kind == KindGroup})
}

// TooManyMembers tells the client that a change of the members got this answer and
// was taken in parts of limit members.
func (c *Client) TooManyMembers(limit int, answer error) {
	if c.cfg.Learned != nil && is(answer, TooLarge, Rejected) && !errors.Is(answer, errBody) && limit < c.Profile().MaxMembersPerRequest {
		c.cfg.Learned(Learned{MaxMembers: limit})
	}
}
