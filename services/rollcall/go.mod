module github.com/rollcall-scim/rollcall/services/rollcall

go 1.26.0

require (
	github.com/rollcall-scim/rollcall/pkg v0.0.0
	github.com/rollcall-scim/rollcall/proto v0.0.0
	github.com/rollcall-scim/rollcall/services/change-detector v0.0.0
	github.com/rollcall-scim/rollcall/services/group-sync v0.0.0
	github.com/rollcall-scim/rollcall/services/user-sync v0.0.0
)

require (
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/rogpeppe/go-internal v1.16.0 // indirect
	github.com/spf13/cobra v1.10.2 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
)

replace (
	github.com/rollcall-scim/rollcall/pkg => ../../pkg
	github.com/rollcall-scim/rollcall/proto => ../../proto
	github.com/rollcall-scim/rollcall/services/change-detector => ../change-detector
	github.com/rollcall-scim/rollcall/services/group-sync => ../group-sync
	github.com/rollcall-scim/rollcall/services/user-sync => ../user-sync
)
