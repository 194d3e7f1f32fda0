package bedrocktoken_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/bedrocktoken/bedrocktoken"
)

// This example makes an http.Client that sends a token with each request, for as
// long as the program runs.
func Example() {
	ctx := context.Background()
	provider, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion("us-east-1"))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: provider.Transport(nil)}

	response, err := client.Get("https://bedrock.us-east-1.amazonaws.com/foundation-models")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
}

// This example takes the region and the credentials from the SDK's default chain:
// the environment, the shared config files, an IAM role.
func ExampleProvideToken() {
	ctx := context.Background()
	token, err := bedrocktoken.ProvideToken(ctx)
	if err != nil {
		log.Fatal(err)
	}
	os.Setenv("AWS_BEARER_TOKEN_BEDROCK", token) // for the programs that this one starts
}

// This example makes a token for another region than that of the default chain.
func ExampleWithRegion() {
	token, err := bedrocktoken.ProvideToken(context.Background(), bedrocktoken.WithRegion("eu-central-1"))
	if err != nil {
		log.Fatal(err)
	}
	os.Setenv("AWS_BEARER_TOKEN_BEDROCK", token) // for the programs that this one starts
}

// This example uses the keys of AWS's documentation. With region and credentials
// given, nothing is read from files or the environment.
func ExampleWithCredentialsProvider() {
	token, err := bedrocktoken.ProvideToken(context.Background(),
		bedrocktoken.WithRegion("us-east-1"),
		bedrocktoken.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "")),
	)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token[:30])
	// Output: bedrock-api-key-YmVkcm9jay5hbW
}

// This example loads a config with options of its own, for a profile whose role asks
// for an MFA code, and passes its credentials. They are a cache: if Bedrock answers
// 403, nobody is asked for another code before they expire.
func ExampleWithCredentialsProvider_configWithOptions() {
	ctx := context.Background()
	client := awshttp.NewBuildableClient().WithTimeout(10 * time.Second) // for each request; then the SDK tries again
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithHTTPClient(client),
		// The SDK does not use it for the endpoint of a container, and would wait there for ever.
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
		config.WithSharedConfigProfile("team"),
		config.WithAssumeRoleCredentialOptions(func(o *stscreds.AssumeRoleOptions) {
			o.TokenProvider = stscreds.StdinTokenProvider
			o.Duration = time.Hour // the SDK's default is 15 minutes
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	provider, err := bedrocktoken.NewProvider(ctx,
		bedrocktoken.WithRegion("us-east-1"), bedrocktoken.WithCredentialsProvider(cfg.Credentials))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("tokens are for", provider.Region())
}

// This example makes a token that lasts an hour, or less if its credentials do.
func ExampleWithExpiry() {
	token, err := bedrocktoken.ProvideToken(context.Background(), bedrocktoken.WithExpiry(time.Hour))
	if err != nil {
		log.Fatal(err)
	}
	os.Setenv("AWS_BEARER_TOKEN_BEDROCK", token) // for the programs that this one starts
}

// This example uses a profile of the shared config files.
func ExampleWithProfile() {
	token, err := bedrocktoken.ProvideToken(context.Background(), bedrocktoken.WithProfile("team"))
	if err != nil {
		log.Fatal(err)
	}
	os.Setenv("AWS_BEARER_TOKEN_BEDROCK", token) // for the programs that this one starts
}

// This example logs the renewals that failed while the program went on with the
// credentials it had.
func ExampleWithRenewalErrorHandler() {
	provider, err := bedrocktoken.NewProvider(context.Background(),
		bedrocktoken.WithRegion("us-east-1"),
		bedrocktoken.WithRenewalErrorHandler(func(err error) {
			slog.Warn("AWS credentials were not renewed", "error", err)
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(provider.Region())
	// Output: us-east-1
}

// This example takes the region and the credentials from the SDK's default chain.
func ExampleNewProvider() {
	provider, err := bedrocktoken.NewProvider(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("tokens are for", provider.Region())
}

// This example makes clients for two regions that share one set of credentials.
func ExampleProvider_ForRegion() {
	first, err := bedrocktoken.NewProvider(context.Background(), bedrocktoken.WithRegion("us-east-1"))
	if err != nil {
		log.Fatal(err)
	}
	second, err := first.ForRegion("us-west-2")
	if err != nil {
		log.Fatal(err)
	}
	for _, provider := range []*bedrocktoken.Provider{first, second} {
		client := &http.Client{Transport: provider.Transport(nil)}
		fmt.Printf("%T for %s\n", client, provider.Region())
	}
	// Output:
	// *http.Client for us-east-1
	// *http.Client for us-west-2
}

// This example builds the URL of an endpoint from the region that the default
// chain found.
func ExampleProvider_Region() {
	provider, err := bedrocktoken.NewProvider(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("https://bedrock-runtime." + provider.Region() + ".amazonaws.com")
}

// This example sets the header of a request by hand.
func ExampleProvider_Token() {
	ctx := context.Background()
	provider, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion("us-east-1"))
	if err != nil {
		log.Fatal(err)
	}

	const url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.amazon.nova-lite-v1:0/converse"
	body := strings.NewReader(`{"messages": [{"role": "user", "content": [{"text": "Hello"}]}]}`)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		log.Fatal(err)
	}
	token, err := provider.Token(ctx)
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
}

// This example shows when a token expires: after 12 hours, because these
// credentials have no expiry.
func ExampleProvider_RetrieveBearerToken() {
	ctx := context.Background()
	provider, err := bedrocktoken.NewProvider(ctx,
		bedrocktoken.WithRegion("us-east-1"),
		bedrocktoken.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "")),
	)
	if err != nil {
		log.Fatal(err)
	}
	token, err := provider.RetrieveBearerToken(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(time.Until(token.Expires).Round(time.Minute))
	// Output: 12h0m0s
}

// This example sends a request to a server that stands in for Bedrock: loopback
// addresses are allowed.
func ExampleProvider_Transport() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Header.Get("Authorization")[:37])
	}))
	defer server.Close()

	provider, err := bedrocktoken.NewProvider(context.Background(),
		bedrocktoken.WithRegion("us-east-1"),
		bedrocktoken.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "")),
	)
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: provider.Transport(nil)}
	response, err := client.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	response.Body.Close()
	// Output: Bearer bedrock-api-key-YmVkcm9jay5hbW
}

// This example sends requests to a gateway, which has to be named.
func ExampleProvider_Transport_gateway() {
	provider, err := bedrocktoken.NewProvider(context.Background(), bedrocktoken.WithRegion("us-east-1"))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: provider.Transport(nil, "gateway.example.com")}

	response, err := client.Get("https://gateway.example.com/foundation-models")
	switch {
	case errors.Is(err, bedrocktoken.ErrCredentials):
		log.Fatal("sign in: ", err)
	case err != nil:
		log.Fatal(err)
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
}
