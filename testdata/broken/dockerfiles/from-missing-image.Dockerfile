FROM localhost:1/no/such:image
