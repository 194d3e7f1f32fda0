package bedrocktoken_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/smithy-go/auth/bearer"
	"github.com/bedrocktoken/bedrocktoken"
)

// The region and the credentials come from the SDK's default chain: the
// environment, the shared config files, an IAM role.
func ExampleProvideToken() {
	ctx := context.Background()
	token, err := bedrocktoken.ProvideToken(ctx)
	if err != nil {
		log.Fatal(err)
	}
	os.Setenv("AWS_BEARER_TOKEN_BEDROCK", token) // for what this program runs
}

// With region and credentials given, nothing is read from files or the environment.
func ExampleProvideToken_staticCredentials() {
	token, err := bedrocktoken.ProvideToken(context.Background(),
		bedrocktoken.WithRegion("us-east-1"),
		bedrocktoken.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "")),
		bedrocktoken.WithExpiry(time.Hour),
	)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token[:30])
	// Output: bedrock-api-key-YmVkcm9jay5hbW
}

// A profile of the shared config files; it may assume a role.
func ExampleWithProfile() {
	token, err := bedrocktoken.ProvideToken(context.Background(), bedrocktoken.WithProfile("team"))
	if err != nil {
		log.Fatal(err)
	}
	os.Setenv("AWS_BEARER_TOKEN_BEDROCK", token) // for what this program runs
}

// A config that the program has loaded for other clients, too.
func ExampleWithConfig() {
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	token, err := bedrocktoken.ProvideToken(ctx, bedrocktoken.WithConfig(cfg))
	if err != nil {
		log.Fatal(err)
	}
	os.Setenv("AWS_BEARER_TOKEN_BEDROCK", token) // for what this program runs
}

// A profile whose role asks for an MFA code.
func ExampleWithConfig_mfa() {
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithAssumeRoleCredentialOptions(func(o *stscreds.AssumeRoleOptions) {
			o.TokenProvider = stscreds.StdinTokenProvider
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	token, err := bedrocktoken.ProvideToken(ctx, bedrocktoken.WithConfig(cfg))
	if err != nil {
		log.Fatal(err)
	}
	os.Setenv("AWS_BEARER_TOKEN_BEDROCK", token) // for what this program runs
}

// One Provider for as long as the program runs, and a client whose requests carry
// a token.
func ExampleNewProvider() {
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

// The region that the default chain found, in the address of an endpoint.
func ExampleProvider_Region() {
	provider, err := bedrocktoken.NewProvider(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("https://bedrock-runtime." + provider.Region() + ".amazonaws.com")
}

// The header set by hand, for each request.
func ExampleProvider() {
	ctx := context.Background()
	provider, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion("us-east-1"))
	if err != nil {
		log.Fatal(err)
	}

	const endpoint = "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.amazon.nova-lite-v1:0/converse"
	body := strings.NewReader(`{"messages": [{"role": "user", "content": [{"text": "Hello"}]}]}`)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, body)
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

// When a token expires: here after 12 hours, for the credentials do not.
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

// A cache that keeps a token until a minute before it expires. A kept token is
// refused once its credentials are revoked.
func ExampleProvider_tokenCache() {
	ctx := context.Background()
	provider, err := bedrocktoken.NewProvider(ctx,
		bedrocktoken.WithRegion("us-east-1"),
		bedrocktoken.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "")),
	)
	if err != nil {
		log.Fatal(err)
	}
	cache := bearer.NewTokenCache(provider, func(o *bearer.TokenCacheOptions) { o.RefreshBeforeExpires = time.Minute })

	first, err := cache.RetrieveBearerToken(ctx)
	if err != nil {
		log.Fatal(err)
	}
	second, err := cache.RetrieveBearerToken(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first == second)
	// Output: true
}

// An http.Client whose requests carry a token. The server stands in for Bedrock:
// loopback addresses are allowed.
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

// A gateway between the client and Bedrock, which would be refused if it were not
// named.
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
