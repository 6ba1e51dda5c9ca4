package main

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/elimity-com/scim"
	scimerrors "github.com/elimity-com/scim/errors"
	"github.com/elimity-com/scim/optional"
	"github.com/elimity-com/scim/schema"
)

// resource is a user or group. Its attributes are never changed in place.
type resource struct {
	number            int
	attributes        scim.ResourceAttributes
	created, modified time.Time
}

// store is what the server holds.
type store struct {
	mu            sync.Mutex
	last          int
	users, groups map[string]*resource
}

func newStore() *store {
	return &store{users: map[string]*resource{}, groups: map[string]*resource{}}
}

// collection are the users or the groups.
type collection struct {
	store     *store
	resources map[string]*resource
	schema    schema.Schema
	unique    string // attribute that no two have alike; empty: none
}

var _ scim.ResourceHandler = (*collection)(nil)

// Create stores a new resource.
func (c *collection) Create(_ *http.Request, attributes scim.ResourceAttributes) (scim.Resource, error) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	if err := c.check("", attributes); err != nil {
		return scim.Resource{}, err
	}
	c.store.last++
	id := "r" + strconv.Itoa(c.store.last)
	now := time.Now()
	c.resources[id] = &resource{number: c.store.last, attributes: attributes, created: now, modified: now}
	return c.resources[id].answer(id), nil
}

// Get returns a resource.
func (c *collection) Get(_ *http.Request, id string) (scim.Resource, error) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	r, there := c.resources[id]
	if !there {
		return scim.Resource{}, scimerrors.ScimErrorResourceNotFound(id)
	}
	return r.answer(id), nil
}

// GetAll returns the page of those that pass the filter, in the order of their creation.
func (c *collection) GetAll(_ *http.Request, params scim.ListRequestParams) (scim.Page, error) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	ids := slices.SortedFunc(maps.Keys(c.resources), func(a, b string) int { return c.resources[a].number - c.resources[b].number })
	all := []scim.Resource{}
	for _, id := range ids {
		attributes := maps.Clone(c.resources[id].attributes)
		attributes[schema.CommonAttributeID] = id
		if params.FilterValidator == nil || params.FilterValidator.PassesFilter(attributes) == nil {
			all = append(all, c.resources[id].answer(id))
		}
	}
	from := min(max(params.StartIndex-1, 0), len(all))
	return scim.Page{TotalResults: len(all), Resources: all[from:min(from+max(params.Count, 0), len(all))]}, nil
}

// Replace replaces all attributes of a resource.
func (c *collection) Replace(_ *http.Request, id string, attributes scim.ResourceAttributes) (scim.Resource, error) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	return c.set(id, attributes)
}

// Patch changes some attributes of a resource: all of them, or none.
func (c *collection) Patch(_ *http.Request, id string, operations []scim.PatchOperation) (scim.Resource, error) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	r, there := c.resources[id]
	if !there {
		return scim.Resource{}, scimerrors.ScimErrorResourceNotFound(id)
	}
	attributes, err := c.patched(r.attributes, operations)
	if err != nil {
		return scim.Resource{}, err
	}
	return c.set(id, attributes)
}

// Delete removes a resource, also from the groups that it is a member of.
func (c *collection) Delete(_ *http.Request, id string) error {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	if _, there := c.resources[id]; !there {
		return scimerrors.ScimErrorResourceNotFound(id)
	}
	delete(c.resources, id)
	for _, g := range c.store.groups {
		members, _ := g.attributes["members"].([]any)
		g.attributes = maps.Clone(g.attributes)
		put(g.attributes, "members", slices.DeleteFunc(slices.Clone(members), func(m any) bool { return text(m, "value") == id }))
	}
	return nil
}

func (c *collection) set(id string, attributes scim.ResourceAttributes) (scim.Resource, error) {
	r, there := c.resources[id]
	if !there {
		return scim.Resource{}, scimerrors.ScimErrorResourceNotFound(id)
	}
	if err := c.check(id, attributes); err != nil {
		return scim.Resource{}, err
	}
	r.attributes, r.modified = attributes, time.Now()
	return r.answer(id), nil
}

// check refuses a second resource of one name and members that nobody knows.
func (c *collection) check(id string, attributes scim.ResourceAttributes) error {
	for other, r := range c.resources {
		if c.unique != "" && other != id && strings.EqualFold(text(map[string]any(r.attributes), c.unique), text(map[string]any(attributes), c.unique)) {
			return scimerrors.ScimErrorUniqueness
		}
	}
	members, _ := attributes["members"].([]any)
	for _, m := range members {
		member := text(m, "value")
		if c.store.users[member] == nil && c.store.groups[member] == nil {
			return scimerrors.ScimErrorBadRequest("there is no resource " + member)
		}
	}
	return nil
}

func (r *resource) answer(id string) scim.Resource {
	external := optional.String{}
	if value := text(map[string]any(r.attributes), schema.CommonAttributeExternalID); value != "" {
		external = optional.NewString(value)
	}
	return scim.Resource{
		ID: id, ExternalID: external, Attributes: maps.Clone(r.attributes),
		Meta: scim.Meta{Created: &r.created, LastModified: &r.modified},
	}
}

// text is a string among the attributes of an object; empty where there is none.
func text(object any, name string) string {
	attributes, _ := object.(map[string]any)
	value, _ := attributes[name].(string)
	return value
}
