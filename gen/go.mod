module github.com/quern-go/quern/gen

go 1.26.0

require (
	github.com/mmcloughlin/avo v0.6.0
	github.com/quern-go/quern v0.0.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/arch v0.32.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect

replace github.com/quern-go/quern => ../
