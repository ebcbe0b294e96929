{
  "name": "app",
  "version": "1.0"
}
