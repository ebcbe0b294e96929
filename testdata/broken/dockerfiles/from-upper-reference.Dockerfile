FROM Some/Image
