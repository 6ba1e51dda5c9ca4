module github.com/rollcall-scim/rollcall/services/user-sync

go 1.26.0

require (
	github.com/rollcall-scim/rollcall/pkg v0.0.0
	github.com/rollcall-scim/rollcall/proto v0.0.0
)

replace (
	github.com/rollcall-scim/rollcall/pkg => ../../pkg
	github.com/rollcall-scim/rollcall/proto => ../../proto
)
